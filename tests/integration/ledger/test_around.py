"""Audited columns through what else happens to a table: subjects, renames, dumps, new keys; and what leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_clusters import run

from .fix_reads import Recorded, ledger

MARK = "mark-7b1f"


@pytest.mark.parametrize("scope", ["tenant", "subject"])
def test_tenants_and_subjects_with_keys_read_ahead(db: Database, recorded: Recorded, scope: str) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person int NOT NULL, note text, open text)")
    columns = '{"note": {"audit": "statement"}, "open": {}}'
    db.sql(f"CALL envelope.protect('visit', '{columns}', scope => '{scope}', scope_column => 'person')")
    # More than a session reads ahead at once.
    db.sql("INSERT INTO visit SELECT i, i, 'x' || i, 'y' || i FROM generate_series(1, 210) i")
    db.sql("GRANT SELECT ON visit TO alice")
    session = db.connect("alice")
    assert session.execute("SELECT count(note), count(open) FROM visit").fetchall() == [(210, 210)]
    session.execute("SELECT envelope.prefetch('visit', ARRAY['5', '6'])")
    assert session.execute("SELECT note FROM visit WHERE id = 5").fetchall() == [("x5",)]
    assert [(event["column"], event["count"]) for event in recorded(session)] == [("note", 210), ("note", 1)]


def test_the_line_of_a_key_fetch_tells_asked_ids_from_those_read_ahead(db: Database, stack: Stack) -> None:
    """The last `read_ahead` of `key_ids` were not asked for yet. No key is used that no line has."""
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person int NOT NULL, note text)")
    columns = '{"note": {"audit": "statement"}}'
    db.sql(f"CALL envelope.protect('visit', '{columns}', scope => 'subject', scope_column => 'person')")
    db.sql("INSERT INTO visit SELECT i, i, 'x' || i FROM generate_series(1, 100) i")
    db.sql("GRANT SELECT ON visit TO alice")
    ids = [int.from_bytes(one[2:6], "big") for (one,) in db.sql("SELECT note::bytea FROM visit_encrypted ORDER BY id")]
    session = db.connect("alice")
    session.execute("SELECT note FROM visit WHERE id = 50")
    session.execute("SELECT note FROM visit ORDER BY id")
    lines = map(json.loads, stack.broker.audit_log.read_text().splitlines())
    pid = session.info.backend_pid
    fetches = [line for line in lines if line.get("op") == "derive" and line["who"].get("pid") == pid]
    asked = [line["key_ids"][: len(line["key_ids"]) - line.get("read_ahead", 0)] for line in fetches]
    assert asked[0] == [ids[49]]
    assert all(len(one) == 1 for one in asked), "each fetch is for the value that the session came to"
    assert asked[1:] == sorted(asked[1:], key=lambda one: ids.index(one[0])), "in the order of the scan"
    assert sum(line.get("read_ahead", 0) for line in fetches) > 50
    told = [key_id for line in fetches for key_id in line["key_ids"]]
    assert set(ids) <= set(told)
    assert len(told) == len(set(told)), "each id is told once"


def test_new_names_and_new_keys(audited: Database, recorded: Recorded) -> None:
    session = audited.connect("alice")
    session.execute("SELECT email FROM person WHERE id = 1")
    audited.sql("SELECT envelope.rotate('person')")
    audited.sql("CALL envelope.reencrypt('person')")
    audited.sql("SELECT envelope.renew_capabilities()")
    assert session.execute("SELECT email FROM person WHERE id = 1").fetchall() == [("user1@b.c",)]
    audited.sql("ALTER TABLE person_encrypted RENAME COLUMN email TO mail")
    audited.sql("CALL envelope.refresh('person')")
    assert session.execute("SELECT mail FROM person WHERE id = 1").fetchall() == [("user1@b.c",)]
    first, second, third = recorded(session)
    assert [event["count"] for event in (first, second, third)] == [1, 1, 1]
    assert first["field"] == second["field"] == third["field"]
    fresh = audited.connect("alice")
    fresh.execute("SELECT mail FROM person WHERE id = 1")
    assert [event["column"] for event in recorded(fresh)] == ["mail"]


def test_reencrypt_and_verify_are_no_reads(audited: Database, recorded: Recorded) -> None:
    session = audited.connect()
    session.execute("SELECT envelope.rotate('person')")
    session.execute("CALL envelope.reencrypt('person')")
    session.execute("UPDATE person SET id = id + 1000 WHERE id = 3")
    opened = [event for event in recorded(session) if event["operation"] != "UPDATE"]
    assert opened == []


def test_a_restored_database_goes_on_recording(
    audited: Database,
    stack: Stack,
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    recorded: Recorded,
    tmp_path: Path,
) -> None:
    dump = tmp_path / "dump"
    run(stack.cluster, audited.name, "pg_dump", "--format=custom", "--file", dump)
    target = empty_database("ledger")
    run(other_cluster, target, "pg_restore", "--exit-on-error", "--dbname", target, dump)
    session = other_cluster.connect(target)
    assert session.execute("SELECT email FROM person WHERE id = 1").fetchall() == [("user1@b.c",)]
    levels = session.execute('SELECT "column", audit FROM envelope.columns ORDER BY 1').fetchall()
    assert levels == [("email", "statement"), ("phone", "none"), ("photo", "statement")]
    assert [(event["database"], event["column"]) for event in recorded(session)] == [(target, "email")]


def test_neither_values_nor_statements_nor_rights_are_in_the_ledger(
    audited: Database, stack: Stack, recorded: Recorded
) -> None:
    for level in ("statement", "row", "sync"):
        audited.sql(f"CALL envelope.set_audit('person', 'email', '{level}')")
        audited.sql(f"UPDATE person SET email = '{MARK}' WHERE id = 1")
        session = audited.connect("alice")
        session.execute(f"SELECT email FROM person WHERE email = '{MARK}'")
        assert recorded(session)
    written = b"".join(path.read_bytes() for path in ledger(stack).parent.glob("reads.jsonl*"))
    capabilities = audited.sql("SELECT capability FROM envelope_private.capability")
    assert MARK.encode() not in written
    assert not [found for (found,) in capabilities if found.hex().encode() in written or found in written]


def test_a_retired_envelope_is_refused_for_its_key(audited: Database) -> None:
    """The guard of the base table opens it for nobody, so it needs no event."""
    audited.sql("CREATE TABLE old AS SELECT id, email FROM person_encrypted")
    audited.sql("SELECT envelope.rotate('person')")
    audited.sql("CALL envelope.reencrypt('person')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not active"):
        audited.sql("UPDATE person_encrypted p SET email = o.email FROM old o WHERE o.id = p.id")
