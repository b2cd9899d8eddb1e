"""verify(): every value is opened, what does not open is listed, beside writers, and after whatever ended it early."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database, Fill
from tests.integration.client.test_commands import Command
from tests.integration.operations.fix_kms_life import failure
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_jobs import Beside, until

from .fix_damage import DAMAGES, FAULTS, ROWS, damage, damage_all, told

VERIFY = "CALL envelope.verify('letter')"
SLOW = "CALL envelope.verify('big', 50, pause_ms => 200)"
LAST = "SELECT value_count, fault_count, reasons, finished_at IS NOT NULL FROM envelope.verifications"
STATUS = "SELECT state, detail FROM envelope.status() WHERE check_name = 'verify'"
BIG = 3000


def fill(db: Database) -> None:
    """big (id, head), with a bad value near its beginning and another one at its end."""
    db.sql("CREATE TABLE big (id int PRIMARY KEY, head text)")
    db.sql(f"INSERT INTO big SELECT i, 'head ' || i FROM generate_series(1, {BIG}) i")
    db.sql("""CALL envelope.protect('big', '["head"]')""")
    db.sql(f"UPDATE big_encrypted SET head = substr(head, 1, octet_length(head) - 1) WHERE id IN (5, {BIG})")
    # In the order of their keys: the UPDATE has put both at the end.
    db.sql("CLUSTER big_encrypted USING big_pkey")
    db.sql("ANALYZE big_encrypted")


@pytest.fixture
def big(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that neither destroy nor suspend a key."""
    made = filled(fill)
    made.durable()
    return made


def bad_rows(db: Database) -> list[str]:
    return [row for row, _ in db.sql(FAULTS)]


def test_it_finds_each_kind_under_each_version(letters: Database) -> None:
    bad = damage_all(letters)
    for _ in range(2):
        warnings = [text for level, text, _ in told(letters.connect(), VERIFY) if level == "WARNING"]
        assert warnings == [f'verify: {2 * ROWS} values of "public"."letter"; does not open: 10, key unknown: 2']
        assert letters.sql(FAULTS) == [(str(row), reason) for row, reason in bad.items()]
        reasons = {"does not open": 10, "key unknown": 2}
        assert letters.sql(LAST) == [(2 * ROWS, len(bad), reasons, True)]
        letters.sql("CALL envelope.reencrypt('letter')")
    damage(letters, "cut", 1)
    assert len(letters.sql(FAULTS)) == len(bad), "under the newest key: reencrypt does not look at it"
    letters.sql(VERIFY)
    assert len(letters.sql(FAULTS)) == len(bad) + 1


@pytest.mark.parametrize("stored", [r"\x", r"\xe1", r"\xe101000000", r"\x00", r"\xe10100000001", "plaintext"])
def test_less_than_an_envelope_is_one_bad_value(letters: Database, stored: str) -> None:
    """As it can be in a table whose domain was tampered with, or by a fault of the disk."""
    letters.sql("ALTER DOMAIN envelope.ciphertext DROP CONSTRAINT ciphertext_is_an_envelope")
    letters.sql("SET session_replication_role = replica")
    letters.sql("UPDATE letter_encrypted SET body = %s::bytea WHERE id = 7", stored)
    letters.sql("RESET session_replication_role")
    with pytest.raises(psycopg.errors.DataCorrupted):
        letters.sql("SELECT body FROM letter WHERE id = 7")
    letters.sql("CALL envelope.reencrypt('letter')")
    letters.sql("CALL envelope.verify('letter')")
    assert letters.sql(FAULTS) in ([("7", "key unknown")], [("7", "does not open")])
    letters.sql("UPDATE letter SET body = 'mended' WHERE id = 7")
    assert letters.one("SELECT body FROM letter WHERE id = 7") == "mended"


def test_all_is_well(letters: Database) -> None:
    said = told(letters.admin, VERIFY)
    assert [(level, text) for level, text, _ in said] == [
        ("NOTICE", f'verify: {2 * ROWS} values of "public"."letter", all open')
    ]
    assert letters.sql(LAST) == [(2 * ROWS, 0, {}, True)]


def test_status_remembers_the_last_one(letters: Database) -> None:
    assert letters.sql(STATUS) == [("ok", "values that did not open: none; tables never verified: 1 of 1")]
    damage(letters, "cut", 3)
    letters.sql(VERIFY)
    ((state, detail),) = letters.sql(STATUS)
    assert state == "failed"
    assert f"1 of {2 * ROWS} in public.letter" in detail
    assert f"letter: {2 * ROWS} values" in detail
    letters.sql("DELETE FROM letter_encrypted WHERE id = 3")
    letters.sql(VERIFY)
    assert letters.sql(STATUS)[0][0] == "ok"


def test_what_was_done_on_purpose_is_listed_and_no_alarm(own_letters: Database) -> None:
    own_letters.sql("CALL envelope.shred('letter', NULL, 'test')")
    assert {level for level, *_ in told(own_letters.admin, VERIFY)} == {"NOTICE"}
    assert own_letters.sql("SELECT DISTINCT reason FROM envelope.faults") == [("key destroyed",)]
    assert own_letters.sql(STATUS)[0][0] == "ok"


def test_a_null_key_erased_as_null_is_told_as_erased(db: Database) -> None:
    db.sql("CREATE TABLE letter (id int PRIMARY KEY, who text NOT NULL, body text)")
    db.sql("INSERT INTO letter VALUES (1, 'ann', 'x'), (2, 'ben', 'y'), (3, 'ben', NULL)")
    db.sql("CALL envelope.protect('letter', '[\"body\"]', scope => 'subject', scope_column => 'who', erased => 'null')")
    db.sql("CALL envelope.shred('letter', 'ben', 'test')")
    db.sql(VERIFY)
    assert db.sql(FAULTS) == [("2", "key destroyed")]
    assert db.sql(LAST)[0][:2] == (2, 1)


def test_all_tables_and_one_that_cannot_be_looked_at(letters: Database) -> None:
    letters.sql("CREATE TABLE hidden (id int PRIMARY KEY, t text); ALTER TABLE hidden OWNER TO owner")
    letters.sql("ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
    letters.sql("""CALL envelope.protect('hidden', '["t"]')""")
    letters.sql("ALTER TABLE hidden_encrypted FORCE ROW LEVEL SECURITY")
    damage(letters, "cut", 3)
    sqlstate, text, _ = failure(letters.admin, "CALL envelope.verify()")
    assert (sqlstate, text) == ("55000", "pg_envelope: 1 of 2 tables could not be verified")
    assert bad_rows(letters) == ["3"]
    letters.sql("ALTER TABLE hidden_encrypted NO FORCE ROW LEVEL SECURITY")
    letters.sql("CALL envelope.verify()")
    assert letters.one("SELECT count(*) FROM envelope.verifications WHERE finished_at IS NOT NULL") == 2


def test_an_abort_and_going_on(big: Database) -> None:
    job = Beside(big, SLOW)
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'verify' AND blocks_done > 0", "a batch")
    assert big.one("SELECT envelope.abort('big')") == 1
    assert "aborted this verification" in str(job.end())
    seen, _, _, finished = big.sql(LAST)[0]
    assert 0 < seen < BIG
    assert not finished
    assert bad_rows(big) == ["5"]
    said = told(big.admin, "CALL envelope.verify('big')")
    assert 'goes on with "public"."big" at block' in said[0][1]
    assert big.sql(LAST)[0][:2] == (BIG, 2), "nothing was looked at twice"
    assert bad_rows(big) == ["5", str(BIG)]
    assert "goes on" not in repr(told(big.admin, "CALL envelope.verify('big')")), "the next one begins anew"


@pytest.mark.parametrize("between", ["VACUUM FULL big_encrypted", "SELECT 1"])
def test_it_begins_anew_where_the_blocks_are_others(big: Database, between: str) -> None:
    job = Beside(big, SLOW)
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'verify' AND blocks_done > 0", "a batch")
    big.sql("SELECT envelope.abort('big')")
    job.end()
    big.sql(between)
    again = "CALL envelope.verify('big', anew => true)" if between == "SELECT 1" else "CALL envelope.verify('big')"
    assert "goes on" not in repr(told(big.admin, again))
    assert big.sql(LAST)[0][:2] == (BIG, 2)


def test_after_a_kill_it_goes_on(big: Database, stack: Stack) -> None:
    job = Beside(big, SLOW)
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'verify' AND blocks_done > 0", "a batch")
    kill_backend(stack, job.pid)
    job.end()
    with Database(stack, big.name) as again:
        assert again.one("SELECT state FROM envelope.progress WHERE what = 'verify'") == "interrupted"
        assert "goes on" in repr(told(again.admin, "CALL envelope.verify('big')"))
        assert again.sql(LAST)[0][:2] == (BIG, 2)


def test_it_holds_neither_locks_nor_a_snapshot_between_batches(big: Database) -> None:
    job = Beside(big, SLOW)
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'verify' AND blocks_done > 0", "a batch")
    big.sql("SELECT envelope.pause('big')")
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE state = 'paused'", "the pause")
    locks = "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype NOT IN ('virtualxid')"
    until(big, f"SELECT ({locks}) = 0", "no lock", job.pid)
    quiet = "SELECT backend_xid IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = %s"
    until(big, quiet, "no snapshot", job.pid)
    big.sql("ALTER TABLE big_encrypted ADD other int")
    big.sql("SELECT envelope.resume('big')")
    big.sql("SELECT envelope.abort('big')")
    job.end()


def test_a_row_that_moves_behind_it_is_found(big: Database) -> None:
    """The bad row at the end is written anew, in a block that was looked at already."""
    big.sql("DELETE FROM big_encrypted WHERE id BETWEEN 6 AND 300")
    big.sql("VACUUM big_encrypted")
    job = Beside(big, "CALL envelope.verify('big', 400, pause_ms => 100)")
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'verify' AND blocks_done > 0", "a batch")
    big.sql("SELECT envelope.pause('big')")
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE state = 'paused'", "the pause")
    done = big.one("SELECT blocks_done FROM envelope.progress WHERE what = 'verify'")
    block = f"SELECT (ctid::text::point)[0] FROM big_encrypted WHERE id = {BIG}"
    for _ in range(50):
        if big.one(block) < done:
            break
        with big.connect() as other:
            gone = f"WITH gone AS (DELETE FROM big_encrypted WHERE id = {BIG} RETURNING *)"
            other.execute(f"{gone} INSERT INTO big_encrypted SELECT * FROM gone")
    assert big.one(block) < done
    assert bad_rows(big) == ["5"]
    big.sql("SELECT envelope.resume('big')")
    assert job.end() is None
    assert bad_rows(big) == ["5", str(BIG)]


def test_two_at_once_and_one_beside_reencrypt(big: Database) -> None:
    job = Beside(big, SLOW)
    until(big, "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'verify' AND blocks_done > 0", "a batch")
    sqlstate, text, _ = failure(big.admin, "CALL envelope.verify('big')")
    assert (sqlstate, text) == ("55006", "pg_envelope: another session verifies this part of the table")
    big.sql("SELECT envelope.rotate('big')")
    big.sql("CALL envelope.reencrypt('big')")
    big.sql("SELECT envelope.abort('big')")
    job.end()
    big.sql("CALL envelope.verify('big')")
    assert bad_rows(big) == ["5", str(BIG)]


def test_many_erased_values_do_not_hide_a_damaged_one(db: Database) -> None:
    db.sql("CREATE TABLE letter (id int PRIMARY KEY, who text NOT NULL, body text)")
    db.sql(
        "INSERT INTO letter SELECT i, CASE WHEN i < 1500 THEN 'ann' ELSE 'ben' END, 'x' FROM generate_series(1, 1510) i"
    )
    db.sql("CALL envelope.protect('letter', '[\"body\"]', scope => 'subject', scope_column => 'who')")
    db.sql("CALL envelope.shred('letter', 'ann', 'test')")
    db.sql("UPDATE letter_encrypted SET body = substr(body, 1, octet_length(body) - 1) WHERE id = 1510")
    db.sql(VERIFY)
    assert db.sql(LAST)[0][1:3] == (1500, {"key destroyed": 1499, "does not open": 1})
    counts = "SELECT reason, count(*) FROM envelope.faults GROUP BY 1 ORDER BY 1"
    assert db.sql(counts) == [("does not open", 1), ("key destroyed", 1000)]


@pytest.mark.parametrize("arguments", ["batch_size => 0", "pause_ms => -1"])
def test_arguments_that_make_no_sense(letters: Database, arguments: str) -> None:
    assert failure(letters.admin, f"CALL envelope.verify('letter', {arguments})")[0] == "22023"
    assert letters.sql(LAST) == []


def test_not_for_others_nor_in_a_transaction_nor_for_other_tables(letters: Database) -> None:
    letters.sql("GRANT EXECUTE ON PROCEDURE envelope.verify TO alice")
    for call in (VERIFY, "CALL envelope.verify()"):
        assert failure(letters.connect("alice"), call)[0] == "42501"
        with letters.connect(autocommit=False) as connection:
            connection.execute("SELECT 1")
            assert failure(connection, call)[0] == "25001"
    assert failure(letters.admin, "CALL envelope.verify('pg_class')")[0] == "42704"


def test_no_reason_tells_more_than_the_catalog_and_the_aead(letters: Database) -> None:
    """Whoever writes ciphertext and reads the list learns nothing about a key: all alterations have one word."""
    for row, how in enumerate(DAMAGES, 11):
        damage(letters, how, row)
    letters.sql(VERIFY)
    by_key = letters.sql("""
        SELECT reason, bool_or(key_id IN (SELECT unnest(key_ids) FROM envelope.keys)) FROM envelope.faults
        WHERE row_key ->> 'id' <> '22' GROUP BY 1 ORDER BY 1""")
    assert by_key == [("does not open", True), ("key unknown", False)]


def test_the_command(command: Command, own_letters: Database) -> None:
    assert "Every value opens" in command.done("verify", "letter").out
    damage(own_letters, "cut", 3)
    done = command.run("verify")
    assert done.code == 1
    assert "does not open" in done.out
    assert "values of" in done.err
    found = json.loads(command.run("verify", "letter", "--json").out)
    assert [(fault["row_key"], fault["reason"]) for fault in found["faults"]] == [({"id": "3"}, "does not open")]
    assert [row["value_count"] for row in found["verifications"]] == [2 * ROWS]
    assert "42P01" in command.run("verify", "nothing").err
