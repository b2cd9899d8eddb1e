"""rotate_kek() and rewrap(): what they move, what stops them, and that nothing is lost when they are killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pg_envelope.backend.lifecycle.batches import BATCH
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import answers, failure
from tests.integration.operations.test_crash import kill_backend

from .fix_deks import KEK, WAITING, ManyDeks, Under, notices

Make = Callable[[str, int], ManyDeks]
ROTATE_KEK = "CALL envelope.rotate_kek('default')"
REWRAP = "CALL envelope.rewrap('default')"
# The smallest numbers that take three batches.
COUNTS = {store: 2 * size + 1 for store, size in BATCH.items()}
POINTS = {"first": 0.0, "middle": 0.5, "last": 1.0}


@contextmanager
def held(deks: ManyDeks, part: float) -> Iterator[psycopg.Connection[Any]]:
    """One DEK's row locked: the batch that holds it is rewrapped by the KMS, and cannot be written to the catalog."""
    ids = list(deks.plain)
    with deks.stack.connect(deks.name, autocommit=False) as blocker:
        blocker.execute(
            "SELECT FROM envelope_private.dek WHERE dek_id = %s FOR UPDATE", [ids[int(part * (len(ids) - 1))]]
        )
        yield blocker


def assert_goes_on(deks: ManyDeks, newest: int) -> None:
    """Both versions open now; after rewrap() the old ones may go."""
    deks.assert_all_open()
    deks.sql(REWRAP)
    assert list(deks.versions()) == [newest]
    assert deks.kek_version() == newest, "rewrap() does not rotate"
    deks.stack.openbao.request("POST", f"{KEK}/config", {"min_decryption_version": newest})
    deks.assert_all_open()


@pytest.mark.parametrize("store", COUNTS)
def test_all_deks_come_to_the_new_version_and_need_no_older_one(many_deks: Make, store: str) -> None:
    deks = many_deks(store, COUNTS[store])
    before, old = deks.wraps(), deks.kek_version()
    deks.sql(ROTATE_KEK)
    assert deks.versions() == {old + 1: COUNTS[store] + 1}
    assert not set(before.values()) & set(deks.wraps().values())
    deks.stack.openbao.request("POST", f"{KEK}/config", {"min_decryption_version": old + 1})
    deks.assert_all_open()


@pytest.mark.parametrize("store", COUNTS)
def test_a_killed_backend_costs_one_batch(many_deks: Make, store: str) -> None:
    """Killed in the first batch; the next call in the second, and the one after it in the last."""
    deks = many_deks(store, COUNTS[store])
    old, total = deks.kek_version(), COUNTS[store] + 1
    for batches, point in enumerate(POINTS.values()):
        with held(deks, point) as blocker:
            under = Under(deks, ROTATE_KEK)
            kill_backend(deks.stack, under.pid)
            under.end()
            blocker.close()
        # The table's own DEK, in store vault, comes first: in a batch of its own when the others are in the catalog.
        done = batches * BATCH[store] + (store == "catalog")
        assert deks.versions() == {old: total - done, **({old + batches + 1: done} if done else {})}
    assert_goes_on(deks, old + len(POINTS))


@pytest.mark.parametrize("store", COUNTS)
def test_a_killed_kms_stops_it_between_batches(many_deks: Make, store: str) -> None:
    """Killed in the first batch, and, when all has gone on, in the second of another rotation, and in a last one."""
    deks = many_deks(store, COUNTS[store])
    for point, part in POINTS.items():
        old = deks.kek_version()
        with held(deks, part) as blocker:
            under = Under(deks, ROTATE_KEK)
            deks.stack.openbao.kill()
            blocker.rollback()
            error = under.end()
        deks.stack.openbao.start()
        if point == "last":
            assert error is None, "nothing was left to ask the KMS for"
        else:
            assert_stopped(deks, error, old)
        goes_on(deks)
        assert list(deks.versions()) == [old + 1]
    assert_goes_on(deks, deks.kek_version())


def assert_stopped(deks: ManyDeks, error: psycopg.Error | None, old: int) -> None:
    assert error is not None
    assert (error.sqlstate, error.diag.message_primary) == ("58000", "pg_envelope: the KMS does not answer")
    assert "the others are as they were" in str(error.diag.message_detail)
    assert str(error.diag.message_hint).endswith("To go on: CALL envelope.rewrap('default').")
    assert sorted(deks.versions()) == [old, old + 1]


def goes_on(deks: ManyDeks) -> None:
    """Waits until the KMS is asked again. One session asks: to start in a new one costs Python more than the call."""
    with deks.stack.connect(deks.name) as session:
        wait_until(lambda: answers(session, REWRAP), 60, "recovery")


def test_while_the_kms_is_sealed_nothing_changes(many_deks: Make) -> None:
    deks = many_deks("catalog", 3)
    old, wraps = deks.kek_version(), deks.wraps()
    deks.stack.openbao.seal()
    with deks.stack.connect(deks.name) as connection:
        for statement in (ROTATE_KEK, REWRAP):
            sqlstate, text, hint = failure(connection, statement)
            assert (sqlstate, text) == ("58000", "pg_envelope: the KMS is sealed")
            assert "bao operator unseal" in hint
    assert deks.wraps() == wraps
    deks.stack.openbao.unseal()
    assert deks.kek_version() == old
    goes_on(deks)
    deks.sql(ROTATE_KEK)
    assert deks.versions() == {old + 1: 4}


@pytest.mark.parametrize("store", COUNTS)
def test_two_at_once_end_on_one_version(many_deks: Make, store: str) -> None:
    deks = many_deks(store, COUNTS[store])
    old = deks.kek_version()
    with held(deks, POINTS["middle"]) as blocker:
        first = Under(deks, ROTATE_KEK)
        second = deks.stack.connect(deks.name)
        errors: list[psycopg.Error] = []
        thread = threading.Thread(target=collect, args=(second, errors))
        thread.start()
        wait_until(lambda: deks.sql(WAITING) == [(2,)], 60, "the second one's wait")
        blocker.rollback()
        assert first.end() is None
        thread.join()
        second.close()
    assert errors == []
    assert deks.versions() == {old + 2: COUNTS[store] + 1}
    assert_goes_on(deks, old + 2)


def collect(connection: psycopg.Connection[Any], errors: list[psycopg.Error], statement: str = ROTATE_KEK) -> None:
    try:
        connection.execute(statement)  # type: ignore[call-overload]
    except psycopg.Error as error:
        errors.append(error)


def test_a_rotation_that_had_its_dek_before_and_commits_later_is_not_left_behind(many_deks: Make) -> None:
    deks = many_deks("catalog", 3)
    old = deks.kek_version()
    with deks.stack.connect(deks.name, autocommit=False) as connection:
        connection.execute("SELECT envelope.rotate('person')")
        under = Under(deks, ROTATE_KEK)
        connection.commit()
    assert under.end() is None
    assert deks.versions() == {old + 1: 5}
    assert_goes_on(deks, old + 1)


def test_tables_rotate_and_are_read_while_it_runs(many_deks: Make) -> None:
    deks = many_deks("catalog", COUNTS["catalog"])
    with held(deks, POINTS["middle"]) as blocker:
        under = Under(deks, ROTATE_KEK)
        assert deks.sql("SELECT envelope.rotate('person')") == [(2,)]
        deks.sql("UPDATE person SET email = email")
        blocker.rollback()
        assert under.end() is None
    assert len(deks.versions()) == 1
    deks.assert_all_open()


def test_an_emergency_waits_for_the_batch_under_way(many_deks: Make) -> None:
    """Both lock several DEKs; without an order they could end in a deadlock."""
    deks = many_deks("vault", 20)
    deks.sql("SELECT envelope.rotate('person')")
    errors: list[psycopg.Error] = []
    with held(deks, POINTS["last"]) as blocker, deks.stack.connect(deks.name) as other:
        under = Under(deks, ROTATE_KEK)
        emergency = "CALL envelope.rotate_emergency('person', 'test')"
        thread = threading.Thread(target=collect, args=(other, errors, emergency))
        thread.start()
        wait_until(lambda: deks.sql(WAITING) == [(2,)], 60, "the emergency's wait")
        blocker.rollback()
        assert under.end() is None
        thread.join()
    assert errors == []
    assert len(deks.versions()) == 1
    deks.assert_all_open()


def test_destroyed_deks_are_passed_over(many_deks: Make) -> None:
    deks = many_deks("catalog", 3)
    old = deks.kek_version()
    deks.sql("UPDATE envelope_private.dek SET state = 'destroyed', wrapped = NULL WHERE dek_id = 1002")
    with deks.stack.connect(deks.name) as connection:
        told = notices(connection)
        connection.execute(ROTATE_KEK)
    assert deks.versions() == {old: 1, old + 1: 3}
    assert told[-1] == (
        f"rotate_kek: KEK default: all DEKs have version {old + 1}; 3 were rewrapped, 1 destroyed ones passed over"
    )


def test_a_bad_dek_is_named_and_stops_no_other(many_deks: Make) -> None:
    deks = many_deks("catalog", 300)
    old = deks.kek_version()
    ((kept,),) = deks.sql("SELECT wrapped FROM envelope_private.dek WHERE dek_id = 1002")
    deks.sql(
        "UPDATE envelope_private.dek d SET wrapped = o.wrapped FROM envelope_private.dek o"
        " WHERE d.dek_id = 1002 AND o.dek_id = 1003"
    )
    with deks.stack.connect(deks.name) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(ROTATE_KEK)
    report = caught.value.diag
    assert report.message_primary == "pg_envelope: 1 DEKs are still under an old version of KEK default"
    assert report.message_detail == "300 were rewrapped; DEK 1002: a wrapped DEK cannot be unwrapped"
    assert "Old KEK versions must stay" in str(report.message_hint)
    assert deks.versions() == {old: 1, old + 1: 300}
    deks.sql("UPDATE envelope_private.dek SET wrapped = %s WHERE dek_id = 1002", kept)
    assert_goes_on(deks, old + 1)


def test_a_crash_between_store_and_catalog_leaves_the_catalog_behind_and_rewrap_sees_it(many_deks: Make) -> None:
    """The entries in KV have the new version already, the catalog says the old one: both are true enough to open."""
    deks = many_deks("vault", 5)
    old = deks.kek_version()
    with held(deks, POINTS["first"]) as blocker:
        under = Under(deks, ROTATE_KEK)
        assert {wrapped.split(":")[1] for wrapped in deks.wraps().values()} == {f"v{old + 1}"}
        os.kill(under.pid, signal.SIGINT)
        assert isinstance(under.end(), psycopg.errors.QueryCanceled)
        blocker.rollback()
    assert deks.versions() == {old: 6}
    assert_goes_on(deks, old + 1)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_session_with_another_isolation_level(many_deks: Make, level: str) -> None:
    deks = many_deks("catalog", COUNTS["catalog"])
    deks.sql(f"ALTER DATABASE {deks.name} SET default_transaction_isolation = '{level}'")
    with held(deks, POINTS["middle"]) as blocker:
        first = Under(deks, ROTATE_KEK)
        errors: list[psycopg.Error] = []
        with deks.stack.connect(deks.name) as second:
            thread = threading.Thread(target=collect, args=(second, errors))
            thread.start()
            wait_until(lambda: deks.sql(WAITING) == [(2,)], 60, "the second one's wait")
            blocker.rollback()
            first.end()
            thread.join()
    assert (first.error, errors) == (None, [])
    assert len(deks.versions()) == 1


@pytest.mark.parametrize("statement", [ROTATE_KEK, REWRAP])
def test_not_inside_a_transaction(many_deks: Make, statement: str) -> None:
    deks = many_deks("catalog", 1)
    old = deks.kek_version()
    with deks.stack.connect(deks.name, autocommit=False) as connection:
        connection.execute("SELECT 1")
        sqlstate, text, _ = failure(connection, statement)
    assert sqlstate == "25001"
    assert "commits as it goes" in text
    assert deks.kek_version() == old


@pytest.mark.parametrize("call", ["rotate_kek", "rewrap"])
def test_only_superusers_and_known_keks(people: Database, call: str) -> None:
    people.sql(f"GRANT EXECUTE ON PROCEDURE envelope.{call}(text) TO alice")
    assert failure(people.connect("alice"), f"CALL envelope.{call}('default')")[0] == "42501"
    for name in ("'other'", "''", "NULL"):
        assert failure(people.admin, f"CALL envelope.{call}({name})")[:2] == (
            "42704",
            "pg_envelope: the broker's configuration has no such KEK",
        )


def test_a_database_without_keys_has_nothing_to_rewrap(db: Database) -> None:
    told = notices(db.admin)
    db.sql(REWRAP)
    assert told == ["rewrap: KEK default: there are no DEKs; 0 were rewrapped"]


def test_the_audit_log_names_what_was_rewrapped(stack: Stack, people: Database) -> None:
    start = stack.broker.audit_log.stat().st_size
    people.sql(ROTATE_KEK)
    added = stack.broker.audit_log.read_text()[start:]
    assert '"op": "rotate_kek", "outcome": "ok"' in added
    assert '"op": "rewrap", "outcome": "ok"' in added
