"""What is stored: new envelopes only where something changed, and the newest key after reencrypt()."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database, Fill


def stored(db: Database, table: str = "t_encrypted") -> dict[int, tuple[bytes | None, ...]]:
    return {row[0]: row[1:] for row in db.sql(f"SELECT id, secret, other FROM {table} ORDER BY id")}


def fill(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text, other numeric, n int)")
    db.sql("INSERT INTO t VALUES (1, 'a', 1.0, 1), (2, '', NULL, 2)")
    db.sql("""CALL envelope.protect('t', '["secret", "other"]')""")


@pytest.fixture
def table(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def test_update_keeps_envelopes_of_what_did_not_change(table: Database) -> None:
    before = stored(table)
    for statement in (
        "UPDATE t SET n = n + 1",
        "UPDATE t SET secret = secret, other = other",
        "UPDATE t SET other = NULL WHERE id = 2",
    ):
        table.sql(statement)
        assert stored(table) == before


def test_update_writes_a_new_envelope_for_what_changed_only(table: Database) -> None:
    before = stored(table)
    table.sql("UPDATE t SET secret = 'b' WHERE id = 1")
    after = stored(table)
    assert after[1][0] != before[1][0]
    assert (after[1][1], after[2]) == (before[1][1], before[2])


def test_another_scale_is_a_change(table: Database) -> None:
    table.sql("UPDATE t SET other = 1.00 WHERE id = 1")
    assert str(table.one("SELECT other FROM t WHERE id = 1")) == "1.00"


def test_set_back_to_the_same_value_never_repeats_a_nonce(table: Database) -> None:
    seen = set()
    for value in "xyxyx":
        table.sql("UPDATE t SET secret = %s WHERE id = 1", value)
        envelope = stored(table)[1][0]
        assert envelope is not None
        seen.add(envelope[6:18])
    assert len(seen) == 5


def test_another_primary_key_binds_all_values_anew(table: Database) -> None:
    before = stored(table)
    table.sql("UPDATE t SET id = 7 WHERE id = 1")
    after = stored(table)[7]
    assert not set(after) & set(before[1])
    assert table.sql("SELECT secret, other FROM t WHERE id = 7") == [("a", 1)]
    table.sql("UPDATE t_encrypted SET id = 8 WHERE id = 7")
    assert not set(stored(table)[8]) & set(after)
    assert table.sql("SELECT secret, other FROM t WHERE id = 8") == [("a", 1)]


def test_bound_by_column_an_envelope_outlives_its_key(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text, other int)")
    db.sql("""CALL envelope.protect('t', '{"secret": {"bind": "column"}}')""")
    db.sql("INSERT INTO t VALUES (1, 'a')")
    before = stored(db)[1]
    db.sql("UPDATE t SET id = 2")
    assert stored(db)[2] == before


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("suite", [1, 2, 3, 4, 5])
def test_suites_and_padding(db: Database, suite: int, pad: bool) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text, other bytea)")
    db.sql("INSERT INTO t VALUES (1, 'old', '\\x80'), (2, '', '\\x')")
    options = f'{{"suite": {suite}, "pad": {str(pad).lower()}, "bind": "{"column" if suite == 4 else "row"}"}}'
    db.sql(f"""CALL envelope.protect('t', '{{"secret": {options}, "other": {options}}}')""")
    db.sql("INSERT INTO t VALUES (3, repeat('é', 3000), '\\x8000')")
    assert db.sql("SELECT id, length(secret), other FROM t ORDER BY id") == [
        (1, 3, b"\x80"),
        (2, 0, b""),
        (3, 3000, b"\x80\x00"),
    ]
    assert {envelope[1] for row in stored(db).values() for envelope in row if envelope} == {suite + 128 * pad}


@pytest.mark.parametrize("batch_size", [1, 7, 2**31 - 1])
def test_reencrypt_brings_every_value_to_the_newest_key(table: Database, batch_size: int) -> None:
    table.sql("INSERT INTO t SELECT i, 'v' || i, i, i FROM generate_series(3, 300) i")
    table.sql("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$")
    table.sql("CREATE TRIGGER fail BEFORE UPDATE ON t_encrypted FOR EACH ROW EXECUTE FUNCTION fail()")
    values = table.sql("SELECT * FROM t ORDER BY id")
    old = {envelope[:6] for row in stored(table).values() for envelope in row if envelope}
    assert table.one("SELECT envelope.rotate('t')") == 2
    assert table.sql("SELECT * FROM t ORDER BY id") == values
    table.sql("CALL envelope.reencrypt('t', %s)", batch_size)
    new = {envelope[:6] for row in stored(table).values() for envelope in row if envelope}
    assert len(new) == 2
    assert not old & new
    assert table.sql("SELECT * FROM t ORDER BY id") == values


def test_reencrypt_beside_writers(table: Database) -> None:
    """A writer changes rows all the while; in the end all values are its last ones, under the newest key."""
    table.sql("INSERT INTO t SELECT i, 'v', 0, 0 FROM generate_series(3, 200) i")
    old = {envelope[:6] for row in stored(table).values() for envelope in row if envelope}
    done = threading.Event()
    writes = 0

    def write() -> None:
        nonlocal writes
        connection = table.connect()
        while not done.is_set():
            writes += 1
            try:
                connection.execute("UPDATE t SET n = %s WHERE id = %s", (writes, 3 + writes % 198))
                connection.execute("UPDATE t SET secret = %s WHERE id = 1", (f"w{writes}",))
            except psycopg.errors.SerializationFailure:
                continue

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            table.sql("SELECT envelope.rotate('t')")
            table.sql("CALL envelope.reencrypt('t', 10)")
    finally:
        done.set()
        thread.join()
    table.sql("CALL envelope.reencrypt('t')")
    assert writes
    assert not old & {envelope[:6] for row in stored(table).values() for envelope in row if envelope}
    assert table.one("SELECT secret FROM t WHERE id = 1").startswith("w")
    assert table.one("SELECT count(*) FROM t WHERE secret = 'v'") == 198


def test_reencrypt_waits_for_a_locked_row(table: Database) -> None:
    table.sql("SELECT envelope.rotate('t')")
    other = table.connect()
    with other.transaction():
        other.execute("SELECT FROM t_encrypted WHERE id = 1 FOR UPDATE")
        worker = table.connect()
        thread = threading.Thread(target=worker.execute, args=("CALL envelope.reencrypt('t')",))
        thread.start()
        while not table.one("SELECT cardinality(pg_blocking_pids(%s)) > 0", worker.info.backend_pid):
            pass
    thread.join()
    assert len({row[0][:6] for row in stored(table).values() if row[0]}) == 1


def test_reencrypt_in_a_transaction_block_says_what_to_do(table: Database) -> None:
    with pytest.raises(psycopg.errors.ActiveSqlTransaction) as refused, table.admin.transaction():
        table.sql("CALL envelope.reencrypt('t')")
    assert "autocommit" in str(refused.value.diag.message_hint)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_reencrypt_refuses_batches_of_nothing(table: Database, batch_size: int) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        table.sql("CALL envelope.reencrypt('t', %s)", batch_size)


def test_reencrypt_reaches_rows_that_policies_hide_and_refuses_where_it_may_not(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text, other int); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    db.sql("ALTER TABLE t OWNER TO owner; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id = 1)")
    db.sql("""CALL envelope.protect('t', '["secret"]'); SELECT envelope.rotate('t')""")
    db.sql("CALL envelope.reencrypt('t')")
    assert len({row[0][:6] for row in stored(db).values() if row[0]}) == 1
    db.sql("SELECT envelope.rotate('t'); ALTER TABLE t_encrypted FORCE ROW LEVEL SECURITY")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.sql("CALL envelope.reencrypt('t')")


def test_a_citext_key_is_found_by_its_index(db: Database) -> None:
    db.sql("CREATE EXTENSION citext; CREATE TABLE t (id citext PRIMARY KEY, secret text, other int)")
    db.sql("""CALL envelope.protect('t', '["secret"]')""")
    assert "OPERATOR(public.=)" in db.one("SELECT prosrc FROM pg_proc WHERE proname = 't_envelope_update'")
    db.sql("INSERT INTO t VALUES ('Ab', 'x')")
    db.sql("UPDATE t SET id = 'aB' WHERE id = 'AB'")
    assert db.sql("SELECT id, secret FROM t") == [("aB", "x")]
