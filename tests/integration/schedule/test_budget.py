"""The message budget: what is sealed is counted, whatever ends the writer; a key rotates itself, and ends in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from stack.postgres import Cluster
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_clusters import run
from tests.integration.operations.fix_kms_life import failure
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_deks import ManyDeks

SOFT, HARD = 2**31 // 64, (2**32 - 2**28) // 64
INSERT = "INSERT INTO person SELECT i, 'x' FROM generate_series(%s::int, %s::int) i"
KEYS = "SELECT key_id, state FROM envelope_private.field_key ORDER BY key_id"
REACHED = """
SELECT coalesce(pg_sequence_last_value(envelope_private.counter_name(field_uuid)::regclass), 0)
FROM envelope_private.field JOIN envelope_private.key USING (key_uuid) WHERE base IS NOT NULL"""
SPENT = "pg_envelope: the key has sealed as many values as it may"


def counter(db: Database) -> str:
    return str(db.one("SELECT envelope_private.counter_name(field_uuid) FROM envelope_private.field"))


def reached(db: Database) -> int:
    """The blocks of 64 that were reserved."""
    return int(db.one(REACHED))


def set_to(db: Database, blocks: int) -> None:
    db.sql("SELECT setval(%s::regclass, %s)", counter(db), blocks)


def records(stack: Stack, start: int) -> list[dict[str, Any]]:
    lines = stack.broker.audit_log.read_text()[start:].splitlines()
    return [event for line in lines if (event := json.loads(line)).get("reason") == "message budget"]


def headers(db: Database) -> list[int]:
    """The key ids that envelopes name."""
    found = db.sql("SELECT DISTINCT substr(email, 3, 4) FROM person_encrypted")
    return sorted(int.from_bytes(key_id, "big") for (key_id,) in found)


def test_what_is_sealed_is_counted(people: Database) -> None:
    start = reached(people)
    assert start == 1, "protect() sealed two values"
    writer = people.connect()
    for first, last, most in ((11, 11, 1), (12, 74, 1), (75, 75, 3), (76, 1000, 31), (1001, 1002, 31)):
        writer.execute(INSERT, [first, last])
        sealed = last - 10
        assert sealed <= (reached(people) - start) * 64 <= most * 64, "never fewer, at most twice as many and a block"
    assert people.one("SELECT messages FROM envelope_private.budget") == reached(people) * 64


def test_it_ends_no_session_that_ends_at_its_first_error(people: Database) -> None:
    """The numbers are drawn in a subtransaction, which an error ends."""
    with people.connect() as session:
        session.execute("SET exit_on_error = on")
        session.execute("INSERT INTO person VALUES (3, 'g@h.i')")
        assert session.execute("SELECT email FROM person WHERE id = 3").fetchone() == ("g@h.i",)


def test_a_rollback_counts(people: Database) -> None:
    start = reached(people)
    writer = people.connect(autocommit=False)
    writer.execute(INSERT, [11, 300])
    writer.rollback()
    assert (reached(people) - start) * 64 >= 290


def test_reading_counts_nothing(people: Database) -> None:
    start = reached(people)
    assert people.connect().execute("SELECT count(email) FROM person").fetchall() == [(2,)]
    assert reached(people) == start


def test_what_survives_a_crash_is_counted(stack: Stack, many_deks: Callable[[str, int], ManyDeks]) -> None:
    deks = many_deks("catalog", 1)
    with deks.stack.connect(deks.name) as writer, deks.stack.connect(deks.name, autocommit=False) as other:
        writer.execute("SET synchronous_commit = on")
        writer.execute(INSERT, [11, 2000])
        (before,) = writer.execute(REACHED).fetchone() or (0,)
        other.execute(INSERT, [2001, 4000])
        kill_backend(stack, other.info.backend_pid)
        writer.close()
        other.close()
    (rows,) = deks.sql("SELECT count(*) FROM person WHERE id > 10")[0]
    assert rows == 1990
    assert deks.sql(REACHED)[0][0] >= before >= rows / 64


@pytest.mark.parametrize(("suite", "counted"), [(1, True), (2, False), (3, True), (4, False), (5, True)])
def test_short_nonces_alone_need_a_count(db: Database, suite: int, counted: bool) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("CALL envelope.protect('person', %s::jsonb)", json.dumps({"email": {"suite": suite, "bind": "column"}}))
    db.sql(INSERT, 1, 1)
    assert (reached(db) > 0) == counted
    set_to(db, HARD)
    other = db.connect()
    if counted:
        assert failure(other, "INSERT INTO person VALUES (2, 'x')")[:2] == ("54000", SPENT)
    else:
        other.execute(INSERT, [2, 2])
    assert db.one("SELECT count(*) FROM envelope_private.budget") == counted


def test_past_the_soft_limit_a_key_rotates_itself(stack: Stack, people: Database) -> None:
    start = stack.broker.audit_log.stat().st_size
    set_to(people, SOFT)
    with people.connect("postgres") as writer:
        writer.execute(INSERT, [11, 300])
    assert people.sql(KEYS) == [(1, "decrypt-only"), (2, "active")]
    assert headers(people) == [1, 2]
    assert people.one("SELECT count(*) FROM person WHERE email = 'x'") == 290
    (event,) = records(stack, start)
    assert (event["action"], event["label"]) == ("rotate_field", "public.person.email")
    assert {"key_id": 2, "from": None, "to": "active"} in event["transitions"]
    assert people.one("SELECT messages FROM envelope_private.budget") < 10_000, "the new key begins anew"
    people.connect().execute(INSERT, [301, 301])
    assert people.one("SELECT count(*) FROM envelope_private.field_key") == 2, "once"


def test_an_ordinary_role_makes_it_rotate(people: Database) -> None:
    """Its own privileges do not matter, and give it no right to the counter."""
    people.sql("GRANT SELECT, INSERT ON person TO alice")
    set_to(people, SOFT)
    alice = people.connect("alice")
    alice.execute(INSERT, [11, 12])
    assert people.sql(KEYS) == [(1, "decrypt-only"), (2, "active")]
    for statement in (f"SELECT nextval('{counter(people)}')", f"SELECT setval('{counter(people)}', 1)"):
        assert failure(alice, statement)[0] == "42501"
    assert failure(alice, "SELECT envelope_internal.run_step('alice')")[0] == "42501"


def test_default_privileges_give_no_counter_away(db: Database) -> None:
    """The owner of a protected table may use the schema: a sequence that it could set would undo the budget."""
    db.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO owner, PUBLIC")
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("ALTER TABLE person OWNER TO owner")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    assert failure(db.connect("owner"), f"SELECT setval('{counter(db)}', 1)")[0] == "42501"


def test_named_keys_likewise(stack: Stack, db: Database) -> None:
    db.sql("SELECT envelope.create_key('api')")
    set_to(db, SOFT)
    value = db.one("SELECT envelope.encrypt('x'::text, 'api')")
    assert db.sql(KEYS) == [(1, "decrypt-only"), (2, "active")]
    assert db.one("SELECT envelope.decrypt(%s)", value) == "x"
    set_to(db, 2 * HARD)
    assert failure(db.connect(), "SELECT envelope.encrypt('x'::text, 'api')")[:2] == ("54000", SPENT)
    db.sql("SELECT envelope.rotate_key('api')")
    assert db.connect().execute("SELECT envelope.encrypt('x'::text, 'api') IS NOT NULL").fetchall() == [(True,)]


@pytest.mark.parametrize("table", ["key", "field_key", "capability"])
def test_it_waits_for_no_lock(people: Database, table: str) -> None:
    set_to(people, SOFT)
    blocker = people.connect(autocommit=False)
    blocker.execute(f"SELECT FROM envelope_private.{table} FOR UPDATE")
    writer = people.connect()
    writer.execute("SET lock_timeout = 1")
    writer.execute(INSERT, [11, 12])
    assert people.sql(KEYS) == [(1, "active")]
    blocker.rollback()
    people.connect().execute(INSERT, [13, 13])
    assert people.sql(KEYS) == [(1, "decrypt-only"), (2, "active")]


def test_where_triggers_are_off_the_old_key_goes_on(people: Database) -> None:
    """reencrypt() writes so; a seal that does not follow its key would use it for ever."""
    set_to(people, SOFT)
    writer = people.connect()
    writer.execute("SET session_replication_role = replica")
    writer.execute("SELECT envelope_internal.encrypt_text('x', seal, '1') FROM envelope_private.capability")
    assert people.sql(KEYS) == [(1, "active")]


def test_without_a_broker_the_old_key_goes_on(breakable: Stack, people: Database) -> None:
    writer = people.connect()
    told: list[str] = []
    writer.add_notice_handler(lambda report: told.append(report.message_primary or ""))
    writer.execute(INSERT, [11, 11])
    set_to(people, SOFT)
    breakable.broker.stop()
    writer.execute(INSERT, [12, 200])
    breakable.broker.start()
    assert people.sql(KEYS) == [(1, "active")]
    assert any("could not be rotated" in text for text in told)


def test_a_rolled_back_rotation_is_made_again(people: Database) -> None:
    set_to(people, SOFT)
    writer = people.connect(autocommit=False)
    writer.execute(INSERT, [11, 300])
    assert people.sql(KEYS) == [(1, "active")]
    people.connect().execute(INSERT, [301, 301])  # does not wait for the writer
    writer.rollback()
    people.connect().execute(INSERT, [11, 300])
    assert [state for _, state in people.sql(KEYS)] == ["decrypt-only", "active"]
    assert people.one("SELECT count(*) FROM person WHERE email = 'x'") == 291


def test_at_the_hard_limit_nothing_is_sealed(people: Database) -> None:
    set_to(people, HARD - 1)
    seal = "SELECT envelope_internal.encrypt_text('x', seal, '1') FROM envelope_private.capability"
    other = people.connect()
    other.execute("SET session_replication_role = replica")  # no rotation by itself
    for _ in range(64):
        other.execute(seal)
    assert failure(other, seal) == (
        "54000",
        SPENT,
        "Give it a new key: SELECT envelope.rotate('<table>'), rotate_field('<table>', '<column>') or rotate_key(...).",
    )
    assert people.connect().execute("SELECT email FROM person ORDER BY id").fetchall() == [("a@b.c",), ("d@e.f",)]
    people.sql("SELECT envelope.rotate_field('person', 'email')")
    people.connect().execute(INSERT, [11, 12])


@pytest.mark.parametrize("statement", ["INSERT INTO person VALUES (9, 'x')", "SELECT envelope.encrypt('x'::text, 'k')"])
def test_nothing_is_sealed_uncounted_in_a_read_only_transaction(people: Database, statement: str) -> None:
    people.sql("SELECT envelope.create_key('k')")
    reader = people.connect()
    reader.execute("SET default_transaction_read_only = on")
    assert failure(reader, statement)[0] == "25006"
    assert reader.execute("SELECT email FROM person WHERE id = 1").fetchall() == [("a@b.c",)]


@pytest.mark.parametrize("harm", ["DROP SEQUENCE {}", "ALTER SEQUENCE {} RESTART"])
def test_a_lost_count_is_no_count_of_zero(people: Database, harm: str) -> None:
    """What the key sealed is not known any more: it is replaced, as one that has sealed enough."""
    people.sql(INSERT, 11, 300)
    people.sql("SELECT envelope.rotate('person')")
    people.sql(harm.format(counter(people)))
    assert people.sql("SELECT lost FROM envelope_private.budget WHERE label LIKE '%person%'") == [(True,)]
    people.connect().execute("INSERT INTO person VALUES (9, 'x')")
    assert people.sql(KEYS) == [(1, "decrypt-only"), (2, "decrypt-only"), (3, "active")]
    people.connect().execute(INSERT, [10, 10])
    assert headers(people)[-1] == 3
    assert people.sql("SELECT lost, messages FROM envelope_private.budget") == [(False, 64)]


def test_a_lost_count_in_a_read_only_transaction_stays_lost(people: Database) -> None:
    people.sql(f"DROP SEQUENCE {counter(people)}")
    reader = people.connect()
    reader.execute("SET default_transaction_read_only = on")
    assert failure(reader, "INSERT INTO person VALUES (9, 'x')")[0] == "25006"


def test_a_restored_dump_goes_on_counting(
    stack: Stack, people: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Any
) -> None:
    people.sql("SELECT envelope.rotate('person')")
    set_to(people, 4711)
    run(stack.cluster, people.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    target = empty_database("counted")
    run(other_cluster, target, "pg_restore", "--exit-on-error", "--dbname", target, tmp_path / "dump")
    with other_cluster.connect(target) as connection:
        connection.execute(INSERT, [11, 11])
        assert connection.execute(f"SELECT last_value FROM {counter(people)}").fetchall() == [(4712,)]


def test_the_extension_goes_without_a_trace(people: Database) -> None:
    people.sql("CALL envelope.unprotect('person')")
    people.sql(f"SELECT envelope.forget_all_keys('{people.name}')")
    people.sql("DROP EXTENSION pg_envelope")
    assert people.one("SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relname ~ '^messages_'") == 0


SCOPED = """CALL envelope.protect('visit', '["note", "plan"]', scope => 'subject', scope_column => 'person')"""
STATES_OF_SUBJECTS = """
SELECT state, count(*) FROM envelope_private.field_key WHERE field_uuid IS NULL GROUP BY 1 ORDER BY 1"""
SCOPED_COUNTER = """
SELECT envelope_private.counter_name(key_uuid) FROM envelope_private.key WHERE scope = 'subject'"""


def test_the_keys_of_subjects_share_a_count_and_rotate_alone(stack: Stack, db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person int NOT NULL, note text, plan text)")
    db.sql(SCOPED)
    db.sql("INSERT INTO visit VALUES (1, 1, 'a', 'b'), (2, 2, 'c', 'd')")
    name = db.one(SCOPED_COUNTER)
    assert db.sql("SELECT label, lost, messages FROM envelope_private.budget WHERE label LIKE '%visit'") == [
        ("visit", False, 4 * 64)
    ]
    start = stack.broker.audit_log.stat().st_size
    db.sql("SELECT setval(%s::regclass, %s)", name, SOFT)
    db.connect().execute("INSERT INTO visit VALUES (3, 1, 'e', 'f')")
    db.connect().execute("INSERT INTO visit VALUES (4, 1, 'g', 'h')")
    assert len(records(stack, start)) == 1, "that of the subject that wrote"
    states = db.sql(STATES_OF_SUBJECTS)
    assert states == [("active", 2), ("decrypt-only", 1)]
    found = db.connect().execute("SELECT note || plan FROM visit ORDER BY id").fetchall()
    assert found == [("ab",), ("cd",), ("ef",), ("gh",)]
    db.sql("SELECT setval(%s::regclass, %s)", name, 2 * HARD)
    assert failure(db.connect(), "INSERT INTO visit VALUES (5, 2, 'x', 'x')")[:2] == ("54000", SPENT)


@pytest.mark.parametrize(("suite", "blocks"), [(1, 2), (2, 0)])
def test_each_new_subject_counts_once_for_each_column(db: Database, suite: int, blocks: int) -> None:
    """The one that makes the key reserves its first block, and no other block for the values that follow."""
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person int NOT NULL, note text, plan text)")
    db.sql(SCOPED.replace('["note", "plan"]', f'{{"note": {{"suite": {suite}}}, "plan": {{"suite": {suite}}}}}'))
    count = f"SELECT coalesce(pg_sequence_last_value(({SCOPED_COUNTER})::regclass), 0)"
    for reached in range(1, 4):
        for i in range(20):
            db.sql("INSERT INTO visit VALUES (%s, %s, 'n', 'p')", 20 * reached + i, reached)
        assert db.one(count) == blocks * reached
    with db.connect() as session, session.transaction(force_rollback=True):
        session.execute("INSERT INTO visit VALUES (1, 9, 'n', 'p')")
    assert db.one(count) == 4 * blocks, "what a rollback undoes may have been sealed"
