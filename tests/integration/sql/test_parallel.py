"""Parallel plans: workers decrypt since PostgreSQL 17. Before, only queries of the base table are parallel."""

from __future__ import annotations

import json
import secrets
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

EAGER = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0"
ONLY_WORKERS = f"{EAGER}; SET parallel_leader_participation = off"
ROWS = 500
SUM = "SELECT count(email), sum(length(email)), max(email), min(photo::text) FROM {}"
QUERIES = (
    SUM,
    "SELECT sum(n) FROM {}",
    "SELECT n % 7, count(DISTINCT email) FROM {} GROUP BY 1 ORDER BY 1",
    "SELECT a.email FROM {} a JOIN {} b ON b.n = a.n + 1 AND b.email > a.email ORDER BY 1",
    "SELECT count(*) FROM {} WHERE email LIKE '%7' AND born > '2001-01-01'",
    "SELECT email, born, photo FROM {} WHERE born IS NULL OR n < 5 ORDER BY id",
)


@pytest.fixture
def big(db: Database) -> Database:
    """plain and big: the same rows, the second one protected."""
    for table in ("plain", "big"):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, email text, n int, born date, photo bytea)")
        db.sql(
            f"INSERT INTO {table} SELECT g, 'mail' || g, g, CASE WHEN g % 3 > 0 THEN date '2000-01-01' + g END,"
            f" decode(md5(g::text), 'hex') FROM generate_series(1, {ROWS}) g"
        )
    db.sql("""CALL envelope.protect('big', '["email", "born", "photo"]')""")
    db.sql(f"ANALYZE big_encrypted; {EAGER}")
    return db


@pytest.fixture
def since_17(db: Database, request: pytest.FixtureRequest) -> Database:
    """`big` on a server where workers decrypt. The leader takes no part, so that they decrypt every value."""
    if not workers_decrypt(db):
        pytest.skip("PostgreSQL 17 is the first that allows subtransactions in parallel mode")
    big: Database = request.getfixturevalue("big")
    big.sql(ONLY_WORKERS)
    return big


def workers_decrypt(db: Database) -> bool:
    return db.admin.info.server_version >= 170000


def is_parallel(db: Database, query: str) -> bool:
    return "Gather" in str(db.sql(f"EXPLAIN {query}"))


@pytest.mark.parametrize("columns", ["count(*)", "sum(n)", "count(email)"])
def test_a_query_of_the_view_is_parallel_since_17(big: Database, columns: str) -> None:
    assert is_parallel(big, f"SELECT {columns} FROM big") == workers_decrypt(big)
    assert big.one("SELECT count(email) FROM big WHERE n > 0") == ROWS


def test_a_query_of_the_base_table_is(big: Database) -> None:
    assert is_parallel(big, "SELECT sum(n) FROM big_encrypted")
    assert big.one("SELECT sum(n) FROM big_encrypted") == big.one("SELECT sum(n) FROM big")


def test_after_an_upgrade_of_the_server_one_call_allows_it(since_17: Database) -> None:
    since_17.sql("ALTER FUNCTION envelope_internal.decrypt_text(envelope.ciphertext, bytea, text) PARALLEL UNSAFE")
    assert not is_parallel(since_17, "SELECT count(email) FROM big")
    since_17.sql("SELECT envelope_private.let_workers_decrypt()")
    assert is_parallel(since_17, "SELECT count(email) FROM big")


@pytest.mark.parametrize("query", QUERIES)
def test_workers_read_what_the_plain_table_has(since_17: Database, query: str) -> None:
    assert is_parallel(since_17, query.format("big", "big"))
    assert since_17.sql(query.format("big", "big")) == since_17.sql(query.format("plain", "plain"))


def test_a_role_without_the_right_gets_nothing_from_workers(since_17: Database) -> None:
    since_17.sql("GRANT SELECT (id, n) ON big TO alice")
    with since_17.connect("alice") as alice:
        alice.execute(ONLY_WORKERS)
        assert alice.execute("SELECT sum(n) FROM big").fetchone() == (since_17.one("SELECT sum(n) FROM plain"),)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            alice.execute("SELECT count(email) FROM big")


@pytest.mark.parametrize("store", ["catalog", "vault"])
def test_a_key_of_the_same_transaction(since_17: Database, store: str) -> None:
    since_17.sql("CREATE TABLE fresh (id int PRIMARY KEY, email text)")
    since_17.sql("INSERT INTO fresh SELECT g, 'mail' || g FROM generate_series(1, 9) g")
    since_17.sql(f"""CALL envelope.protect('fresh', '["email"]', store => '{store}')""")
    with since_17.admin.transaction():
        since_17.sql("SELECT envelope.rotate('fresh')")
        since_17.sql("UPDATE fresh SET email = email || '+'")
        assert is_parallel(since_17, "SELECT count(email) FROM fresh")
        assert since_17.one("SELECT count(email) FROM fresh WHERE email LIKE 'mail%+'") == 9


@pytest.mark.parametrize("scope", ["tenant", "subject"])
def test_keys_of_tenants_and_subjects(since_17: Database, scope: str) -> None:
    """A revocation counts in workers, too, and its error is the session's own."""
    since_17.sql("CREATE TABLE visit (id int PRIMARY KEY, who text NOT NULL, note text)")
    since_17.sql("INSERT INTO visit SELECT g, 'p' || g % 20, 'note ' || g FROM generate_series(1, 200) g")
    since_17.sql(f"""CALL envelope.protect('visit', '["note"]', scope => '{scope}', scope_column => 'who')""")
    since_17.sql("ANALYZE visit_encrypted")
    query = "SELECT count(note), count(DISTINCT note) FROM visit"
    assert is_parallel(since_17, query)
    assert since_17.sql(query) == [(200, 200)]
    since_17.sql("CALL envelope.suspend('visit', 'p7', 'test')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        since_17.sql(query)
    assert "note 7" not in str(caught.value) + str(caught.value.diag.context)
    since_17.sql("CALL envelope.unsuspend('visit', 'p7')")
    assert since_17.sql(query) == [(200, 200)]


def test_an_envelope_that_does_not_open_is_the_one_error(since_17: Database) -> None:
    since_17.sql("SET session_replication_role = replica")
    since_17.sql("UPDATE big_encrypted SET email = set_byte(email, 30, get_byte(email, 30) # 1) WHERE id = 77")
    since_17.sql("RESET session_replication_role")
    with pytest.raises(psycopg.errors.DataCorrupted) as caught:
        since_17.sql(SUM.format("big"))
    assert caught.value.diag.message_primary == "pg_envelope: the envelope cannot be opened"
    assert "mail" not in str(caught.value.diag.context)


def test_the_broker_is_told_the_session_and_its_client(since_17: Database) -> None:
    """A worker has a process number of its own, and no client."""
    log = since_17.stack.broker.audit_log
    password = secrets.token_hex()
    since_17.sql(f"ALTER ROLE alice PASSWORD '{password}'; GRANT SELECT ON big TO alice")
    with since_17.connect("alice", host="127.0.0.1", password=password) as remote:
        since_17.sql("SELECT envelope.flush()")
        remote.execute(f"{ONLY_WORKERS}")
        at = log.stat().st_size
        assert remote.execute("SELECT count(email) FROM big").fetchone() == (ROWS,)
        with log.open() as file:
            file.seek(at)
            told: list[dict[str, Any]] = [json.loads(line) for line in file]
        who = [event["who"] for event in told if event.get("op") == "derive"]
        asked = {(each["pid"], each["client"]) for each in who if each["database"] == since_17.name}
        assert asked == {(remote.info.backend_pid, "127.0.0.1")}


def test_the_session_itself_reads_what_is_audited_or_masked_or_asks_for_a_role(since_17: Database) -> None:
    """Its right or its event is in its own memory. The rest of the query may run in workers."""
    since_17.sql("CALL envelope.set_audit('big', 'email', 'statement')")
    assert is_parallel(since_17, "SELECT sum(n) FROM big")
    assert since_17.sql(SUM.format("big")) == since_17.sql(SUM.format("plain"))
    since_17.sql("CALL envelope.set_audit('big', 'email', 'none')")
    since_17.sql("SELECT envelope.mask('big', 'email', 'public', 'text', '{\"text\": \"masked\"}')")
    since_17.sql("GRANT SELECT ON big TO bob")
    with since_17.connect("bob") as bob:
        bob.execute(ONLY_WORKERS)
        assert "Gather" in str(bob.execute("EXPLAIN SELECT sum(n) FROM big").fetchall())
        assert bob.execute("SELECT DISTINCT email FROM big").fetchall() == [("masked",)]
    since_17.sql("SELECT envelope.unmask('big', 'email')")
    since_17.sql("ALTER TABLE big_encrypted ENABLE ROW LEVEL SECURITY; CALL envelope.refresh('big')")
    since_17.sql("GRANT SELECT ON big TO alice; CREATE POLICY high ON big_encrypted TO alice USING (n > 400)")
    with since_17.connect("alice") as alice:
        alice.execute(ONLY_WORKERS)
        assert alice.execute("SELECT count(email), sum(n) FROM big").fetchone() == (100, sum(range(401, 501)))


def test_every_function_that_a_view_reads_with_is_marked(since_17: Database) -> None:
    """What is missing in the list would make each query of its view run in one process."""
    marked = since_17.sql("""
        SELECT proname::text FROM pg_proc WHERE pronamespace = 'envelope_internal'::regnamespace
            AND proname ~ '^((decrypt|legacy)_(text|bytea)|opened$|masked$)' AND proparallel = 'u'""")
    assert marked == []


def test_writes_and_jobs_where_all_plans_shall_be_parallel(big: Database) -> None:
    name = "debug_parallel_query" if big.admin.info.server_version >= 160000 else "force_parallel_mode"
    big.sql(f"SET {name} = on")
    assert big.sql("INSERT INTO big VALUES (501, 'x', 1) RETURNING email") == [("x",)]
    assert big.sql("UPDATE big SET email = email || '+' WHERE id = 501 RETURNING email") == [("x+",)]
    big.sql("SELECT envelope.rotate('big')")
    big.sql("CALL envelope.reencrypt('big')")
    big.sql("CALL envelope.verify('big')")
    assert big.sql("DELETE FROM big WHERE id = 501 RETURNING email") == [("x+",)]
    assert big.sql("TABLE envelope.faults") == []
