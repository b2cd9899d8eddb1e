"""Partitioned tables: what differs from ordinary ones in a roll-out, and after it."""

from __future__ import annotations

import random
from contextlib import ExitStack, suppress

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import KEY, import_key, token
from tests.integration.online.fix_phases import CALLS, DIGEST, KINDS, PHASES, ROWS, SECOND, THIRD, dump
from tests.integration.online.test_beside import Connection, Crowd
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_jobs import Beside, until

PROTECT, UNPROTECT = CALLS["protect"], CALLS["unprotect"]
INDEXES = """
CREATE INDEX by_mail ON person (email); COMMENT ON INDEX by_mail IS 'for logins';
CREATE UNIQUE INDEX one_mail ON person (email, id); CREATE INDEX upper_note ON person (upper(note));
ALTER TABLE person ADD CONSTRAINT one_note UNIQUE (note, id);
ALTER INDEX person_low_email_idx RENAME TO "By mail, low"; ALTER INDEX person_odd_email_idx RENAME TO swapped;
ALTER INDEX person_even_email_idx RENAME TO person_odd_email_idx;
ALTER INDEX swapped RENAME TO person_even_email_idx"""
WANTED = """'{"email": {}, "note": {"index": "drop"}, "born": {}}'"""
INDEXED = f"CALL envelope.protect('person', {WANTED}, online => true)"
OWN = {
    "a trigger": "CREATE TRIGGER own BEFORE INSERT ON person_low FOR EACH ROW EXECUTE FUNCTION nothing()",
    "a CHECK": "ALTER TABLE person_odd ADD CONSTRAINT own CHECK (email <> 'x')",
    "a CHECK of the whole row": "ALTER TABLE person_odd ADD CONSTRAINT own CHECK (person_odd IS DISTINCT FROM NULL)",
    "an index": "CREATE INDEX own ON person_rest (note)",
    "an index of an expression": "CREATE INDEX own ON person_rest (upper(note))",
    "a UNIQUE constraint": "ALTER TABLE person_rest ADD CONSTRAINT own UNIQUE (email)",
    "a view": "CREATE VIEW own AS SELECT email FROM person_low",
    "a view of whole rows": "CREATE VIEW own AS SELECT p FROM person_low p",
    "a function": "CREATE FUNCTION own() RETURNS text BEGIN ATOMIC SELECT email FROM person_odd; END",
    "a function of its row type": "CREATE FUNCTION own(person_low) RETURNS int LANGUAGE sql RETURN 1",
    "a rule": "CREATE RULE own AS ON INSERT TO person_low DO ALSO NOTHING",
    "a policy": "CREATE POLICY own ON person_low USING (email <> '')",
    "a default": "ALTER TABLE person_low ALTER email SET DEFAULT 'own'",
    "STORAGE": "ALTER TABLE person_low ALTER email SET STORAGE MAIN",
    "statistics": "CREATE STATISTICS own ON email, n FROM person_low",
    "another owner": "ALTER TABLE person_rest OWNER TO alice",
    "forced row-level security": "ALTER TABLE person_low ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "a publication": "CREATE PUBLICATION own FOR TABLE person_low",
}
HOLDERS = """
SELECT string_agg(DISTINCT tableoid::regclass::text, ',' ORDER BY tableoid::regclass::text) FROM person_encrypted"""
LEFT = "SELECT count(*) FROM person_encrypted WHERE email IS NULL OR num_nonnulls(email_plain, note_plain) > 0"


@pytest.fixture
def people(db: Database) -> Database:
    db.sql(KINDS["partitioned"])
    return db


@pytest.fixture
def protected(people: Database) -> Database:
    people.sql(PROTECT)
    return people


@pytest.mark.parametrize("there", ["online", "offline"])
@pytest.mark.parametrize("back", ["online", "offline"])
def test_indexes_and_their_names_come_back(people: Database, there: str, back: str) -> None:
    people.sql(f"REVOKE SELECT (id, note) ON person FROM bob; {INDEXES}")
    schema, rows = dump(people), people.sql(DIGEST)
    people.sql(INDEXED if there == "online" else INDEXED.replace(", online => true", ""))
    assert people.sql("SELECT id FROM person WHERE email_search = 'value 401'") == [(401,)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        people.sql("INSERT INTO person (id, email) VALUES (7, 'value 7')")
    people.sql(UNPROTECT if back == there == "online" else UNPROTECT.replace(", online => true", ""))
    assert people.sql(DIGEST) == rows
    assert dump(people) == schema


@pytest.mark.parametrize("own", OWN)
def test_what_a_partition_has_of_its_own_is_refused(people: Database, own: str) -> None:
    people.sql("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    people.sql(OWN[own])
    schema = dump(people)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        people.sql(PROTECT)
    assert "own" in (caught.value.diag.message_detail or "")
    assert caught.value.diag.message_hint
    assert dump(people) == schema


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("PRIMARY KEY (id, a)) PARTITION BY LIST (a)", "decides in which partition"),
        ("PRIMARY KEY (id)) PARTITION BY LIST (id)", None),
        ("PRIMARY KEY (id) DEFERRABLE) PARTITION BY LIST (id)", "DEFERRABLE"),
        ("n int) PARTITION BY LIST (lower(a))", "decides in which partition"),
        ("n int) PARTITION BY LIST (a)", "decides in which partition"),
    ],
)
def test_the_partition_key_and_the_primary_key(db: Database, made: str, reason: str | None) -> None:
    db.sql(f"CREATE TABLE t (id int, a text, {made}")
    protect = """CALL envelope.protect('t', '{"a": {"bind": "column"}}', online => true)"""
    if reason is None:
        db.sql(protect)
        return
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        db.sql(protect)
    assert reason in (caught.value.diag.message_detail or "")


def test_a_query_reads_the_partitions_that_it_needs(protected: Database) -> None:
    plan = "\n".join(line for (line,) in protected.sql("EXPLAIN SELECT email FROM person WHERE id = 5"))
    assert "person_low" in plan
    assert "person_rest" not in plan


def test_the_plan_counts_all_partitions(people: Database) -> None:
    plan = "SELECT detail FROM envelope.plan('person', '[\"email\"]') WHERE step IN ('rows', 'bytes') ORDER BY step"
    (size,), (rows,) = people.sql(plan)
    assert rows == f"{ROWS:,}"
    assert not size.startswith("0 ")


def test_dead_rows_are_told_of_by_partition(protected: Database) -> None:
    residue = "SELECT state, detail FROM envelope.status() WHERE check_name = 'residue'"
    state, detail = protected.sql(residue)[0]
    assert (state, "person_low" in detail, "person_odd" in detail) == ("warning", True, True)
    protected.sql("VACUUM FULL person_low")
    assert "person_low" not in protected.sql(residue)[0][1]
    protected.sql("VACUUM FULL person_encrypted")
    assert protected.sql(residue)[0][0] == "ok"


ROWS_DONE = "SELECT rows >= %s FROM envelope.progress WHERE what = 'online'"
# Each partition has several blocks.
MOVED = 900
MOVING = f"""
CREATE TABLE account (id int, place int, owner text NOT NULL, amount int NOT NULL, PRIMARY KEY (id, place))
    PARTITION BY LIST (place);
CREATE TABLE account_0 PARTITION OF account FOR VALUES IN (0); CREATE TABLE account_1 PARTITION OF account DEFAULT;
CREATE TABLE account_2 PARTITION OF account FOR VALUES IN (2);
INSERT INTO account SELECT i, i % 3, 'owner ' || i, 100 FROM generate_series(1, {MOVED}) i"""
MOVED_PROTECT = """CALL envelope.protect('account', '["owner", "amount"]', online => true, batch_size => 50)"""
MOVED_UNPROTECT = "CALL envelope.unprotect('account', online => true, batch_size => 50)"


def sees_all(connection: Connection) -> None:
    wrong = (
        "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE owner <> 'owner ' || id), sum(amount) FROM account"
    )
    assert connection.execute(wrong).fetchall() == [(MOVED, MOVED, 0, 100 * MOVED)]


def moves_rows(connection: Connection) -> None:
    """Rows go to another partition, and take their values along."""
    with suppress(psycopg.errors.SerializationFailure):
        connection.execute("UPDATE account SET place = (place + 1) %% 3 WHERE id = %s", (random.randint(1, MOVED),))


def holds_rows(connection: Connection) -> None:
    """The batches pass over these rows, and meet them later in another partition."""
    some = random.randint(1, MOVED - 50)
    with suppress(psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected), connection.transaction():
        connection.execute("SELECT FROM account WHERE id BETWEEN %s AND %s FOR UPDATE", (some, some + 50))
        connection.execute("UPDATE account SET place = 2 - place WHERE id BETWEEN %s AND %s", (some, some + 50))


def test_rows_move_between_partitions_meanwhile(db: Database) -> None:
    db.sql(MOVING)
    crowd = Crowd(db)
    with ExitStack() as stack:
        stack.callback(crowd.stop)
        for name, act in {"reader": sees_all, "mover": moves_rows, "other": moves_rows, "holder": holds_rows}.items():
            crowd.add(name, act)
        for call in (MOVED_PROTECT, MOVED_UNPROTECT, MOVED_PROTECT):
            db.sql(call)
            assert crowd.failures == []
    assert crowd.failures == []
    assert min(crowd.rounds.values()) > 0, crowd.rounds
    assert db.one("SELECT count(*) FROM account_encrypted WHERE owner IS NULL OR owner_plain IS NOT NULL") == 0
    sees_all(db.admin)


def test_rows_in_the_same_place_of_two_partitions_are_told_apart(people: Database) -> None:
    """Others hold them until nothing else is left. Then the job takes them one by one."""
    rows = people.sql(DIGEST)
    for call in (PROTECT, UNPROTECT):
        with people.stack.connect(people.name) as holder:
            holder.execute("BEGIN; SELECT FROM person WHERE id % 100 IN (1, 2) FOR UPDATE")
            # The first step needs the table alone, so the job waits there, and nothing is held up later.
            holder.execute("ROLLBACK")
            with PHASES["backfill"](people, call) as job:
                holder.execute("BEGIN; SELECT FROM person WHERE id % 100 IN (1, 2) FOR UPDATE")
                until(people, ROWS_DONE, "the others", ROWS - ROWS // 50)
                holder.execute("ROLLBACK")
            assert job.end() is None
        assert people.sql(DIGEST) == rows


@pytest.mark.parametrize("act", CALLS)
def test_a_partition_is_dropped_and_one_is_made_meanwhile(people: Database, act: str) -> None:
    if act == "unprotect":
        people.sql(PROTECT)
    with PHASES["backfill"](people, CALLS[act]) as job:
        people.sql("DROP TABLE person_middle")
        people.sql(f"CREATE TABLE person_new PARTITION OF person_encrypted FOR VALUES FROM ({SECOND}) TO ({THIRD})")
        people.sql("INSERT INTO person (id, email) VALUES (400, 'value 400')")
        people.sql("UPDATE person SET id = 401 WHERE id = 1")
    assert job.end() is None
    assert people.one("SELECT count(*) FROM person WHERE email LIKE 'value %'") == ROWS - (THIRD - SECOND) + 1
    assert people.sql(f"SELECT id, email FROM person WHERE id >= {SECOND} AND id < {THIRD} ORDER BY id") == [
        (400, "value 400"), (401, "value 1"),
    ]  # fmt: skip
    if act == "protect":
        assert people.one(LEFT) == 0
        people.sql(UNPROTECT)
    assert people.one("SELECT count(*) FROM person_new WHERE email LIKE 'value %'") == 2


DETACHES = {
    "its own name": "ALTER TABLE person DETACH PARTITION person_low",
    "the base table": "ALTER TABLE person_encrypted DETACH PARTITION person_low",
    "while others read": "ALTER TABLE person_encrypted DETACH PARTITION person_low CONCURRENTLY",
    "a table between": 'ALTER TABLE IF EXISTS "person_middle" DETACH /* now */ PARTITION person_odd',
    "inside of a function": "DO $$BEGIN EXECUTE 'ALTER TABLE person_middle DETACH PARTITION person_odd'; END$$",
}


@pytest.mark.parametrize("way", DETACHES)
def test_a_partition_cannot_take_envelopes_away(protected: Database, way: str) -> None:
    rows = protected.sql(DIGEST)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        protected.sql(DETACHES[way])
    assert "DROP TABLE the partition" in (caught.value.diag.message_hint or "")
    assert protected.sql(DIGEST) == rows
    protected.sql("CREATE TABLE other (i int) PARTITION BY LIST (i); CREATE TABLE part PARTITION OF other DEFAULT")
    protected.sql("ALTER TABLE other DETACH PARTITION part")


def test_partitions_come_by_the_name_of_the_view(protected: Database) -> None:
    protected.sql(
        "DROP TABLE person_rest; CREATE TABLE person_far PARTITION OF person FOR VALUES FROM (5000) TO (6000)"
    )
    protected.sql(f"CREATE TABLE person_more PARTITION OF person FOR VALUES FROM ({THIRD}) TO (5000)")
    protected.sql("INSERT INTO person (id, email, note) VALUES (5500, 'far@x', 'n'), (1500, 'more@x', 'n')")
    assert protected.sql(f"SELECT email FROM person WHERE id >= {THIRD} ORDER BY id") == [("more@x",), ("far@x",)]
    assert protected.one("SELECT count(*) FROM person_far WHERE email IS NOT NULL AND email_plain IS NULL") == 1
    with pytest.raises(psycopg.errors.CheckViolation):
        protected.sql("INSERT INTO person_far (id, email) VALUES (5501, 'plain')")
    with pytest.raises(psycopg.errors.CheckViolation):
        protected.sql("INSERT INTO person (id, email, note) VALUES (5502, 'x@x', '')")


def test_a_plain_table_cannot_become_a_partition_but_its_rows_can_come(protected: Database) -> None:
    protected.sql("CREATE TABLE plain AS SELECT id + 9000 AS id, email, note, n, born FROM person WHERE id < 5")
    with pytest.raises(psycopg.errors.DatatypeMismatch):
        protected.sql("ALTER TABLE person ATTACH PARTITION plain FOR VALUES FROM (9000) TO (9100)")
    protected.sql("INSERT INTO person SELECT * FROM plain")
    assert protected.one("SELECT count(*) FROM person WHERE id > 9000 AND email = 'value ' || id - 9000") == 4


@pytest.mark.parametrize(
    "own",
    [
        "CREATE TRIGGER zzz_last BEFORE UPDATE ON person_low FOR EACH ROW EXECUTE FUNCTION nothing()",
        "CREATE INDEX own ON person_odd (email)",
        "ALTER TABLE person_odd ADD CONSTRAINT own CHECK (octet_length(email) > 1)",
    ],
)
def test_a_partition_gets_nothing_of_its_own_later(protected: Database, own: str) -> None:
    protected.sql("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        protected.sql(own)


def test_ddl_by_the_name_of_the_view(protected: Database) -> None:
    rows = protected.sql(DIGEST)
    protected.sql("ALTER TABLE person ADD COLUMN extra int DEFAULT 5; ALTER TABLE person RENAME COLUMN email TO mail")
    protected.sql("UPDATE person SET mail = mail, extra = 6 WHERE id IN (5, 405)")
    assert protected.one("SELECT count(*) FROM person WHERE mail = 'value ' || id AND extra IN (5, 6)") == ROWS
    protected.sql("ALTER TABLE person DROP COLUMN extra; ALTER TABLE person RENAME COLUMN mail TO email")
    assert protected.sql(DIGEST) == rows


def test_jobs_go_over_all_partitions(protected: Database) -> None:
    rows = protected.sql(DIGEST)
    protected.sql("SELECT envelope.rotate('person')")
    protected.sql("CALL envelope.reencrypt('person', batch_size => 70)")
    protected.sql("SELECT envelope.rotate('person')")
    for part in (1, 2):
        protected.sql(f"CALL envelope.reencrypt('person', part => {part}, parts => 2, batch_size => 70)")
    protected.sql("CALL envelope.verify('person', batch_size => 70)")
    assert protected.sql("SELECT value_count, fault_count FROM envelope.verifications") == [
        (protected.one("SELECT count(email) + count(note) + count(born) FROM person"), 0)
    ]
    protected.sql("CALL envelope.add_search('person', 'email')")
    protected.sql("CALL envelope.rotate_search('person', 'email')")
    assert protected.sql("SELECT id FROM person WHERE email_search = 'value 402'") == [(402,)]
    assert (
        protected.sql(DIGEST.replace("FROM person p", "FROM (SELECT id, email, note, n, born FROM person) p")) == rows
    )
    protected.sql("CALL envelope.truncate('person')")
    assert protected.one("SELECT count(*) FROM person") == 0


def test_a_verification_goes_on_in_the_partition_where_it_was(protected: Database) -> None:
    protected.durable()
    job = Beside(protected, "CALL envelope.verify('person', batch_size => 100, pause_ms => 100)")
    first = "(SELECT min(oid) FROM pg_class WHERE relname ~ '^person_(low|odd|even|rest)$')"
    begun = f"SELECT count(*) > 0 FROM envelope_private.verification WHERE heap > {first}"
    until(protected, begun, "the second partition")
    kill_backend(protected.stack, job.pid)
    job.end()
    with Database(protected.stack, protected.name) as again:
        goes_on = Beside(again, "CALL envelope.verify('person')")
        assert goes_on.end() is None
        assert any("goes on" in notice for notice in goes_on.notices)
        values = again.one("SELECT count(email) + count(note) + count(born) FROM person")
        assert again.sql("SELECT value_count, fault_count FROM envelope.verifications") == [(values, 0)]


def test_a_canary_in_one_of_two_rows_of_the_same_place(protected: Database) -> None:
    protected.sql("VACUUM FULL person_encrypted")
    rows = protected.sql(DIGEST)
    place = "(SELECT ctid FROM person_encrypted WHERE id = 5)"
    assert protected.one(f"SELECT count(*) > 1 FROM person_encrypted WHERE ctid = {place}")
    protected.sql("SELECT envelope.plant_canary('person', '{\"id\": 5}')")
    assert protected.sql(DIGEST) == rows


def test_upserts_go_to_their_partition(protected: Database) -> None:
    protected.sql("CALL envelope.allow_upsert('person')")
    for _ in range(2):
        protected.sql("""
            INSERT INTO person_upsert (id, email, note)
            VALUES (5, 'new@x', 'a'), (401, 'new@x', 'b'), (7777, 'new@x', 'c')
            ON CONFLICT (id) DO UPDATE SET email = excluded.email, note = excluded.note""")
    assert protected.sql("SELECT id, note FROM person WHERE email = 'new@x' ORDER BY id") == [
        (5, "a"), (401, "b"), (7777, "c"),
    ]  # fmt: skip


def test_foreign_partitions_are_refused(db: Database) -> None:
    db.sql("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w")
    db.sql("CREATE TABLE t (id int, a text) PARTITION BY LIST (id)")
    db.sql("CREATE FOREIGN TABLE away PARTITION OF t DEFAULT SERVER s")
    protect = """CALL envelope.protect('t', '{"a": {"bind": "column"}}', online => true)"""
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        db.sql(protect)
    assert "away is a foreign table" in (caught.value.diag.message_detail or "")
    db.sql("DROP FOREIGN TABLE away")
    db.sql(protect)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="away is a foreign table"):
        db.sql("CREATE FOREIGN TABLE away PARTITION OF t_encrypted DEFAULT SERVER s")


def test_a_unique_search_column_needs_the_partition_key(people: Database) -> None:
    people.sql("REVOKE SELECT (id, note) ON person FROM bob")
    schema = dump(people)
    unique = """'{"email": {"search": "exact", "unique": true}}'"""
    online = INDEXED.replace(WANTED, unique)
    for call in (online, online.replace(", online => true", "")):
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot be protected as it is") as caught:
            people.sql(call)
        assert "unique" in (caught.value.diag.message_detail or "")
    assert dump(people) == schema


def test_an_adoption(db: Database) -> None:
    """What other software encrypted becomes envelopes in each partition."""
    db.sql(MOVING)
    db.sql("ALTER TABLE account ADD secret text")
    import_key(db, "legacy", "fernet", KEY)
    for number in range(1, 200):
        db.sql("UPDATE account SET secret = %s WHERE id = %s", token(f"secret {number}"), number)
    db.sql("CALL envelope.adopt('account', '[\"secret\"]', 'fernet', key => 'legacy')")
    db.sql("UPDATE account SET place = 2 - place WHERE id < 100")
    db.sql("CALL envelope.convert('account', batch_size => 20)")
    db.sql("CALL envelope.finish_adoption('account')")
    assert db.one("SELECT count(*) FROM account WHERE secret = 'secret ' || id") == 199


def test_a_row_under_an_old_key_moves(db: Database) -> None:
    """PostgreSQL deletes it and inserts it again: the guard tells that from an envelope that somebody brings along."""
    db.sql(f"{MOVING}; ALTER TABLE account ADD by_column text; UPDATE account SET by_column = 'value ' || id")
    wanted = '{"owner": {}, "amount": {}, "by_column": {"bind": "column"}}'
    db.sql(f"CALL envelope.protect('account', '{wanted}', online => true)")
    db.sql("SELECT envelope.rotate('account')")
    db.sql("UPDATE account SET place = 0 WHERE id IN (1, 2)")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not active"):
        db.sql("UPDATE account_encrypted SET place = 0 WHERE id = 4")
    db.sql("CALL envelope.reencrypt('account')")
    db.sql("UPDATE account_encrypted SET place = 0 WHERE id = 4")
    assert db.one("SELECT count(*) FROM account WHERE owner = 'owner ' || id AND by_column = 'value ' || id") == MOVED
    sees_all(db.admin)
