"""move_kek(): from store to store and KMS to KMS, read and written meanwhile, killed in between; what it refuses."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pg_envelope.backend.lifecycle.batches import BATCH
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database, Fill
from tests.integration.operations.fix_kms_life import READ, answers, failure
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_deks import ManyDeks, Under, notices

Make = Callable[[str, int], ManyDeks]
Filled = Callable[[Fill], Database]
# The smallest numbers that take three batches.
COUNTS = {store: 2 * size + 1 for store, size in BATCH.items()}
POINTS = {"first": 0.0, "middle": 0.5, "last": 1.0}
PLACES = "SELECT DISTINCT kek, store FROM envelope_private.dek ORDER BY 1, 2"
LEFT = "SELECT count(*) FROM envelope_private.dek WHERE kek = 'default' AND store = %s"
NEXT_PLACES = "SELECT DISTINCT kek, store FROM envelope_private.key ORDER BY 1, 2"
# From where the DEKs are made, and to where; the last one stays within one KV mount.
WAYS = [
    ("catalog", "default", "vault"),
    ("vault", "default", "catalog"),
    ("catalog", "laptop", "catalog"),
    ("vault", "laptop", "catalog"),
    ("vault", "second", "vault"),
]


def with_person(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c'), (2, 'd@e.f')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")


def call(to: str, store: str | None = None, source: str = "default") -> str:
    given = {"from_kek": source, "to_kek": to, "to_store": store}
    return f"CALL envelope.move_kek({', '.join(f'{n} => {v!r}' for n, v in given.items() if v)})"


@contextmanager
def held(deks: ManyDeks, part: float) -> Iterator[psycopg.Connection[Any]]:
    """One DEK's row locked: the batch that holds it is wrapped anew in the KMS, and not yet in the catalog."""
    ids = list(deks.plain)
    with deks.stack.connect(deks.name, autocommit=False) as blocker:
        blocker.execute(
            "SELECT FROM envelope_private.dek WHERE dek_id = %s FOR UPDATE", [ids[int(part * (len(ids) - 1))]]
        )
        yield blocker


def assert_back_home(deks: ManyDeks, to: str, store: str) -> None:
    """All are in the new place, and cold keys read; moved back, each opens in OpenBao to the bytes it had."""
    with deks.stack.connect(deks.name) as session:
        sql = functools.partial(answer, session)
        assert sql(PLACES) == sql(NEXT_PLACES) == [(to, store)]
        sql("SELECT envelope.flush('test')")
        assert sql("SELECT email FROM person WHERE id < 3 ORDER BY id") == [("a@b.c",), ("d@e.f",)]
        sql("DELETE FROM person WHERE id > 2")
        if (to, store) != ("default", deks.store):
            sql(call("default", deks.store, to))
        assert sql(PLACES) == [("default", deks.store)]
    deks.assert_all_open()


def answer(session: psycopg.Connection[Any], statement: str, *values: Any) -> list[tuple[Any, ...]]:
    cursor = session.execute(statement, values or None)  # type: ignore[call-overload]
    return cursor.fetchall() if cursor.description else []


@pytest.mark.usefixtures("keks")
@pytest.mark.parametrize(("start", "to", "store"), WAYS)
def test_everybody_reads_and_writes_meanwhile(many_deks: Make, start: str, to: str, store: str) -> None:
    deks = many_deks(start, COUNTS[start])
    warm, other = deks.stack.connect(deks.name), deks.stack.connect(deks.name)
    for number, point in enumerate(POINTS.values()):
        with held(deks, point) as blocker:
            under = Under(deks, call(to, store))
            assert warm.execute(READ).fetchone() == ("a@b.c",)
            other.execute("SELECT envelope.flush('cold')")
            assert deks.sql(READ) == warm.execute(READ).fetchall() == [("a@b.c",)]
            other.execute("INSERT INTO person VALUES (%s, 'new')", [10 + number])
            other.execute("SELECT pg_cancel_backend(%s)", [under.pid])
            assert isinstance(under.end(), psycopg.errors.QueryCanceled)
            blocker.rollback()
        assert deks.sql(READ) == [("a@b.c",)]
    told = notices(warm)
    warm.execute(call(to, store))  # type: ignore[call-overload]
    warm.close()
    assert told[-1].endswith(f"DEKs were moved from KEK default to {to}")
    assert answer(other, "SELECT count(*) FROM person WHERE email = 'new'") == [(3,)]
    other.close()
    assert_back_home(deks, to, store)


@pytest.mark.usefixtures("keks")
@pytest.mark.parametrize(("start", "to", "store"), [WAYS[0], WAYS[3], WAYS[4]])
def test_a_killed_backend_costs_one_batch(many_deks: Make, start: str, to: str, store: str) -> None:
    """Killed in the first batch; the next call in the second, and the one after it in the last."""
    deks = many_deks(start, COUNTS[start])
    left = deks.sql(LEFT, start)
    for point in POINTS.values():
        with held(deks, point) as blocker:
            under = Under(deks, call(to, store))
            kill_backend(deks.stack, under.pid)
            under.end()
            blocker.close()
        with deks.stack.connect(deks.name) as session:
            session.execute("SELECT envelope.flush('cold')")
            assert answer(session, READ) == [("a@b.c",)]
            left += answer(session, LEFT, start)
    total = left[0][0]
    assert left[1:] == [(total - batches * BATCH[start],) for batches in (0, 1, 2)]
    deks.sql(call(to, store))
    assert_back_home(deks, to, store)


@pytest.mark.usefixtures("keks")
@pytest.mark.parametrize(("start", "to", "store"), [WAYS[1], WAYS[2], WAYS[4]])
def test_a_killed_broker_stops_it_between_batches(many_deks: Make, start: str, to: str, store: str) -> None:
    deks = many_deks(start, COUNTS[start])
    with held(deks, POINTS["first"]) as blocker:
        under = Under(deks, call(to, store))
        deks.stack.broker.kill()
        blocker.rollback()
        error = under.end()
    assert error is not None
    assert error.sqlstate == "58000"
    assert "the others are as they were" in str(error.diag.message_detail)
    assert str(error.diag.message_hint).endswith(f"To go on: {call(to, store)}.")
    deks.stack.broker.start()
    with deks.stack.connect(deks.name) as session:
        wait_until(lambda: answers(session), 60, "the broker")
    deks.sql(call(to, store))
    assert_back_home(deks, to, store)


@pytest.mark.usefixtures("keks")
def test_a_rotation_that_had_its_dek_before_and_commits_later_is_not_left_behind(many_deks: Make) -> None:
    deks = many_deks("catalog", 3)
    with deks.stack.connect(deks.name, autocommit=False) as connection:
        connection.execute("SELECT envelope.rotate('person')")
        under = Under(deks, call("laptop"))
        connection.commit()
    assert under.end() is None
    assert deks.sql("SELECT envelope.rotate('person')") == [(3,)]
    deks.sql("UPDATE person SET email = email")
    assert deks.sql(PLACES) == [("laptop", "catalog")]
    assert deks.sql(READ) == [("a@b.c",)]


def test_what_an_older_move_left_in_the_key_store_is_not_in_the_way(keks: Stack, people: Database) -> None:
    for to, store, source in (("laptop", None, "default"), ("second", "vault", "laptop"), ("default", None, "second")):
        people.sql(call(to, store, source))
        people.sql("SELECT envelope.flush('cold')")
        assert people.one(READ) == "a@b.c"
    assert people.sql(PLACES) == [("default", "vault")]


def test_a_catalog_of_before_the_move_still_opens(keks: Stack, people: Database) -> None:
    """As after the restore of a dump; the entry in the key store names the KEK that opens it."""
    people.sql(call("second"))
    people.sql("UPDATE envelope_private.dek SET kek = 'default'")
    people.sql("SELECT envelope.flush('cold')")
    assert people.one(READ) == "a@b.c"


def test_one_table_moves_and_no_other_key(keks: Stack, people: Database) -> None:
    people.sql("SELECT envelope.create_key('app', store => 'catalog')")
    people.sql("CREATE TABLE other (id int PRIMARY KEY, email text)")
    people.sql("""CALL envelope.protect('other', '["email"]')""")
    people.sql("CALL envelope.move_kek('default', 'laptop', rel => 'person')")
    found = people.sql("SELECT coalesce(name, relation::text), kek, store FROM envelope.keys ORDER BY 1")
    assert found == [("app", "default", "catalog"), ("other", "default", "vault"), ("person", "laptop", "catalog")]
    assert people.sql("SELECT kek FROM envelope_private.key WHERE base = 'person_encrypted'::regclass") == [("laptop",)]
    start = keks.broker.audit_log.stat().st_size
    people.sql("CALL envelope.move_kek('default', 'laptop')")
    assert people.sql(PLACES) == [("laptop", "catalog")]
    lines = [json.loads(line) for line in keks.broker.audit_log.read_text()[start:].splitlines()]
    moves = [event for event in lines if event.get("op") == "rewrap"]
    assert {(event["from_kek"], event["kek"], event["outcome"]) for event in moves} == {("default", "laptop", "ok")}


def test_a_suspended_key_moves_along(keks: Stack, people: Database) -> None:
    people.sql("CALL envelope.suspend('person')")
    people.sql(call("laptop"))
    assert people.sql("SELECT state, kek FROM envelope.keys") == [("suspended", "laptop")]
    people.sql("CALL envelope.unsuspend('person')")
    assert people.one(READ) == "a@b.c"


@pytest.mark.usefixtures("keks")
def test_a_bad_dek_is_named_and_stops_no_other(many_deks: Make) -> None:
    deks = many_deks("catalog", 3)
    ((kept,),) = deks.sql("SELECT wrapped FROM envelope_private.dek WHERE dek_id = 1002")
    deks.sql(
        "UPDATE envelope_private.dek d SET wrapped = o.wrapped FROM envelope_private.dek o"
        " WHERE d.dek_id = 1002 AND o.dek_id = 1003"
    )
    with pytest.raises(psycopg.Error) as caught:
        deks.sql(call("laptop"))
    report = caught.value.diag
    assert report.message_primary == "pg_envelope: 1 DEKs are still under KEK default"
    assert report.message_detail == "3 were moved; DEK 1002: a wrapped DEK cannot be unwrapped"
    assert "That KEK must stay" in str(report.message_hint)
    deks.sql("UPDATE envelope_private.dek SET wrapped = %s WHERE dek_id = 1002", kept)
    deks.sql(call("laptop"))
    assert deks.sql(PLACES) == [("laptop", "catalog")]


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("CALL envelope.move_kek('default', 'default')", "22023"),
        ("CALL envelope.move_kek('default', 'laptop', 'vault')", "22023"),
        ("CALL envelope.move_kek('default', 'laptop', 'elsewhere')", "22023"),
        ("CALL envelope.move_kek('default', 'laptop', tenant => 'acme')", "22023"),
        ("CALL envelope.move_kek('default', 'laptop', rel => 'person', tenant => 'acme')", "22023"),
        ("CALL envelope.move_kek('none', 'laptop')", "42704"),
        ("CALL envelope.move_kek('default', 'none')", "42704"),
        ("CALL envelope.move_kek(NULL, NULL)", "42704"),
        ("BEGIN; CALL envelope.move_kek('default', 'laptop')", "25001"),
    ],
)
@pytest.mark.usefixtures("keks")
def test_what_is_refused_changes_nothing(filled: Filled, statement: str, sqlstate: str) -> None:
    people = filled(with_person)
    before = people.sql("SELECT * FROM envelope_private.dek"), people.sql("SELECT * FROM envelope_private.key")
    assert failure(people.admin, statement)[0] == sqlstate
    people.admin.rollback()
    assert (
        people.sql("SELECT * FROM envelope_private.dek"),
        people.sql("SELECT * FROM envelope_private.key"),
    ) == before


def test_only_superusers(filled: Filled) -> None:
    people = filled(with_person)
    people.sql("GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA envelope TO alice")
    assert failure(people.connect("alice"), call("laptop"))[0] == "42501"


def test_without_the_right_to_encrypt_there_nothing_moves(keks: Stack, people: Database) -> None:
    people.sql(call("laptop"))
    policy = "sys/policies/acl/pg-envelope-broker"
    text = keks.openbao.request("GET", policy)["data"]["policy"]
    denied = '\npath "transit/encrypt/*" { capabilities = ["deny"] }\n'
    denied += 'path "transit/encrypt/pg-envelope-default" { capabilities = ["deny"] }\n'
    keks.openbao.request("PUT", policy, {"policy": text + denied})
    assert failure(people.admin, call("default", None, "laptop"))[1] == (
        "pg_envelope: the KMS refused the broker's login or request"
    )
    assert people.sql(PLACES) == [("laptop", "catalog")]
    assert people.one(READ) == "a@b.c"
