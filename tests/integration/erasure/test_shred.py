"""shred() and shred_key(): what they destroy, what they say, and what a role or a stolen copy gets afterwards."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

from .conftest import entries_of

PROTECT = """CALL envelope.protect('person', '["email"]', store => '{}')"""
READ = "SELECT email FROM person ORDER BY id"
STATES = "SELECT version, state FROM envelope.keys ORDER BY version"


@pytest.fixture
def shop(db: Database) -> Database:
    """A table whose key is in store catalog, with two rows of two key versions."""
    return made(db, "catalog")


def made(db: Database, store: str) -> Database:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql(PROTECT.format(store))
    db.sql("INSERT INTO person VALUES (1, 'a@b.c')")
    db.sql("SELECT envelope.rotate('person')")
    db.sql("INSERT INTO person VALUES (2, 'd@e.f')")
    return db


def warned(db: Database) -> list[tuple[Any, ...]]:
    return db.sql("SELECT state, hint FROM envelope.status() WHERE check_name = 'erasures'")


@pytest.mark.parametrize("store", ["catalog", "vault"])
def test_no_version_opens_again_in_any_session(policy: Stack, db: Database, store: str) -> None:
    made(db, store)
    warm = db.connect()
    assert warm.execute(READ).fetchall() == [("a@b.c",), ("d@e.f",)]
    db.sql("CALL envelope.shred('person', reason => 'ticket 7')")
    for connection in (warm, db.connect()):
        state, message, _ = failure(connection, READ)
        assert (state, message) == ("55000", "pg_envelope: the key was destroyed")
    assert db.sql(STATES) == [(1, "destroyed"), (2, "destroyed")]
    assert db.one("SELECT count(wrapped) FROM envelope_private.dek") == 0
    assert db.one("SELECT count(*) FROM envelope_private.field_key WHERE state <> 'destroyed'") == 0
    assert warned(db) == [("ok", None)]


def test_the_key_store_has_no_version_and_no_metadata_left(policy: Stack, db: Database) -> None:
    made(db, "vault")
    uuid = db.one("SELECT database_uuid FROM envelope_private.installation")
    ids = [row[0] for row in db.sql("SELECT dek_id FROM envelope_private.dek")]
    there = policy.openbao.request("LIST", f"kv/metadata/pg_envelope/{uuid}")
    assert sorted(there["data"]["keys"]) == sorted(map(str, ids))
    db.sql("CALL envelope.shred('person', reason => 'test')")
    with pytest.raises(Exception, match="404"):
        policy.openbao.request("LIST", f"kv/metadata/pg_envelope/{uuid}")


def test_writes_say_so_until_there_is_a_new_key(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    state, message, hint = failure(shop.admin, "INSERT INTO person VALUES (3, 'g@h.i')")
    assert (state, message) == ("55000", "pg_envelope: the key was destroyed")
    assert "envelope.rotate(" in hint
    assert shop.one("SELECT envelope.rotate('person')") == 3
    shop.sql("INSERT INTO person VALUES (3, 'g@h.i')")
    assert shop.sql("SELECT email FROM person WHERE id = 3") == [("g@h.i",)]
    assert failure(shop.admin, READ)[0] == "55000"


def test_rows_that_are_erased_can_be_deleted(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    shop.sql("DELETE FROM person_encrypted WHERE id = 1")
    assert shop.one("SELECT count(*) FROM person_encrypted") == 1


def test_the_table_goes_on_beside_its_erased_rows(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    shop.sql("SELECT envelope.rotate('person')")
    shop.sql("INSERT INTO person VALUES (3, 'g@h.i')")
    shop.sql("SELECT envelope.rotate('person')")
    shop.sql("CALL envelope.refresh('person')")
    state, message, _ = failure(shop.admin, "CALL envelope.unprotect('person')")
    assert (state, "values do not open; nothing was changed" in message) == ("XX001", True)
    assert shop.sql("SELECT email FROM person WHERE id = 3") == [("g@h.i",)]
    shop.sql("DELETE FROM person_encrypted WHERE id < 3")
    shop.sql("CALL envelope.unprotect('person')")
    assert shop.sql(READ) == [("g@h.i",)]


def test_reencrypt_passes_over_what_was_erased(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    shop.sql("SELECT envelope.rotate('person')")
    shop.sql("INSERT INTO person VALUES (3, 'g@h.i')")
    shop.sql("SELECT envelope.rotate('person')")
    shop.sql("CALL envelope.reencrypt('person')")
    told = json.loads(shop.one("SELECT statement FROM envelope.receipts"))["statement"]["fields"][0]
    assert [(key["version"], key["state"], key["values"]) for key in told["keys"]] == [
        (1, "destroyed", 1),
        (2, "destroyed", 1),
        (4, "active", 1),
    ]


def test_a_named_key_dies_with_all_its_versions(db: Database) -> None:
    db.sql("SELECT envelope.create_key('k', store => 'catalog')")
    value = db.one("SELECT envelope.encrypt('secret', 'k', 'c')")
    db.sql("SELECT envelope.rotate_key('k')")
    db.sql("CALL envelope.shred_key('k', 'ticket 8')")
    assert failure(db.admin, "SELECT envelope.encrypt('more', 'k', 'c')")[0] == "55000"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        db.sql("SELECT envelope.decrypt(%s::bytea::envelope.ciphertext, 'c')", value)
    db.sql("SELECT envelope.rotate_key('k')")
    assert db.one("SELECT envelope.decrypt(envelope.encrypt('new', 'k', 'c'), 'c')") == "new"


def test_again_it_finds_nothing_to_do(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    tombstones = "SELECT dek_id, ledger_line FROM envelope_private.tombstone ORDER BY 1"
    before = shop.sql(tombstones), entries_of(shop)
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    assert (shop.sql(tombstones), entries_of(shop)) == before


def test_it_says_what_it_did(shop: Database) -> None:
    told: list[tuple[str | None, str | None]] = []
    shop.admin.add_notice_handler(lambda report: told.append((report.message_primary, report.message_hint)))
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    (message, hint) = told[-1]
    assert message == "shred: 2 of 2 key versions of public.person destroyed; erased in: public.person"
    assert "envelope.rotate(" in str(hint)


def test_ledger_and_tombstones_say_who_what_and_when(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'ticket 7')")
    (entry,) = entries_of(shop)
    assert (entry["label"], entry["reason"], entry["who"]["role"]) == ("public.person", "ticket 7", "postgres")
    rows = shop.sql(
        "SELECT dek_id, encode(fingerprint, 'hex'), kek, store, kek_version, label, reason, erased_by, subject, salt,"
        " made_at < erased_at FROM envelope_private.tombstone ORDER BY dek_id"
    )
    told = ("public.person", "ticket 7", "postgres", None, None, True)
    assert rows == [(*dek, *told) for dek in map(tuple, entry["deks"])]


def test_each_change_of_state_is_in_the_audit_log(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'ticket 7')")
    events = [json.loads(line) for line in shop.stack.broker.audit_log.read_text().splitlines()]
    recorded = [event for event in events if event.get("action") == "shred"][-1]
    assert recorded["reason"] == "ticket 7"
    changed = [(next(iter(one)), one["from"], one["to"]) for one in recorded["transitions"]]
    assert sorted(changed) == sorted(
        (kind, before, "destroyed") for kind in ("dek_id", "key_id") for before in ("active", "decrypt-only")
    )
    assert [event["op"] for event in events if event.get("op") in ("erase", "record", "flush")][-3:] == [
        "erase",
        "record",
        "flush",
    ]


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("CALL envelope.shred('person', 'somebody', 'test')", "22023"),
        ("CALL envelope.shred('pg_class', reason => 'test')", "42704"),
        ("CALL envelope.shred_key('no such key', 'test')", "42704"),
        ("BEGIN; CALL envelope.shred('person', reason => 'test'); COMMIT", "25001"),
        ("CALL envelope.shred('person')", "22023"),
        ("CALL envelope.shred('person', reason => NULL)", "22023"),
        ("CALL envelope.shred('person', reason => E' \\t')", "22023"),
    ],
)
def test_refusals(shop: Database, statement: str, state: str) -> None:
    connection = shop.connect()
    assert failure(connection, statement)[0] == state
    connection.rollback()
    assert shop.sql(READ) == [("a@b.c",), ("d@e.f",)]
    assert entries_of(shop) == []


def test_nobody_is_told_to_leave_the_subject_out(shop: Database) -> None:
    """Who wanted to erase one person must not be led to erase all."""
    with pytest.raises(psycopg.Error) as caught:
        shop.sql("CALL envelope.shred('person', 'somebody', 'ticket 7')")
    assert caught.value.diag.message_detail == "Nothing was destroyed."
    assert "DELETE their rows" in str(caught.value.diag.message_hint)


def test_a_named_key_needs_a_reason(shop: Database) -> None:
    shop.sql("SELECT envelope.create_key('api')")
    assert failure(shop.admin, "CALL envelope.shred_key('api', '  ')")[0] == "22023"
    assert shop.one("SELECT state FROM envelope.keys WHERE name = 'api'") == "active"


def test_a_policy_that_denies_leaves_all_as_it_was(db: Database) -> None:
    made(db, "vault")
    state, _, hint = failure(db.admin, "CALL envelope.shred('person', reason => 'test')")
    assert state == "58000"
    assert hint.startswith("Nothing was erased.")
    assert "init --allow-shred" in hint
    assert entries_of(db) == []
    assert db.sql(READ) == [("a@b.c",), ("d@e.f",)]
    assert warned(db) == [("ok", None)]
