"""protect(online) of further columns of a protected table, and unprotect(online) of some: the others stay protected."""

from __future__ import annotations

from itertools import count

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import DIGEST, EACH_KIND, KINDS, PHASES, SCOPES, abort, each_phase
from tests.integration.operations.test_crash import kill_backend
from tests.integration.sql.test_there_and_back import dump

FIRST = "CALL envelope.protect('person', '[\"email\"]', online => true)"
JOIN = "CALL envelope.protect('person', '[\"note\", \"born\"]', online => true)"
LEAVE = "CALL envelope.unprotect('person', columns => '[\"note\", \"born\"]', online => true)"
WHOLE = "CALL envelope.unprotect('person', online => true)"
ACTS = {"join": JOIN, "leave": LEAVE}
COLUMNS = "SELECT attname::text FROM envelope_private.protected_column ORDER BY 1"
IN_THE_CLEAR = "SELECT count(email_plain) FROM person_encrypted"
KIND = "SELECT relkind FROM pg_class WHERE oid = 'person'::regclass"
LEFT = "SELECT check_name, detail FROM envelope.status() WHERE state <> 'ok' AND check_name <> 'residue'"
VIEWS = """
CREATE VIEW young AS SELECT id, note, born FROM person WHERE born > '2001-01-01';
COMMENT ON VIEW young IS 'for reports'; GRANT SELECT ON young TO bob;
ALTER TABLE person ALTER note SET DEFAULT 'none', ALTER n SET DEFAULT 7"""


@pytest.fixture(params=SCOPES)
def started(person: Database, request: pytest.FixtureRequest) -> Database:
    """The table with one protected column, with one key or with many."""
    person.sql(VIEWS)
    person.sql(FIRST.replace(", online", f"{SCOPES[request.param]}, online"))
    return person


def _protected(db: Database) -> list[str]:
    return [name for (name,) in db.sql(COLUMNS)]


@pytest.mark.parametrize("person", KINDS, indirect=True)
def test_both_together_are_an_identity(person: Database) -> None:
    person.sql(VIEWS)
    plain, rows = dump(person), person.sql(DIGEST)
    person.sql(FIRST)
    before = dump(person)
    for _ in range(2):
        person.sql(JOIN)
        assert _protected(person) == ["born", "email", "note"]
        assert person.sql(DIGEST) == rows
        assert person.sql(LEFT) == []
        person.sql(LEAVE)
        assert _protected(person) == ["email"]
        assert person.sql(DIGEST) == rows
        assert dump(person) == before
    person.sql(JOIN)
    person.sql(WHOLE)
    assert person.sql(DIGEST) == rows
    assert dump(person) == plain


@pytest.mark.parametrize(("person", "started"), EACH_KIND, indirect=True)
def test_it_ends_well(started: Database) -> None:
    """At every moment the column that stays is an envelope in each row, and every value can be read."""
    before, rows, new = dump(started), started.sql(DIGEST), count(9001)
    for act, call in ACTS.items():
        for phase in each_phase(started, call):
            assert started.sql(DIGEST) == rows, phase
            assert started.one(IN_THE_CLEAR) == 0, phase
            if phase in ("backfill", "old snapshots"):
                _write(started, next(new))
                rows = started.sql(DIGEST)
        assert started.sql(DIGEST) == rows
        assert _protected(started) == (["email"] if act == "leave" else ["born", "email", "note"])
        with pytest.raises(psycopg.errors.CheckViolation):
            started.sql("INSERT INTO person (id, email, note) VALUES (9101, 'x', '')")
    assert dump(started) == before


def _write(db: Database, new: int) -> None:
    db.sql("UPDATE person SET note = %s, email = 'changed@x', born = NULL WHERE id = 5", f"changed {new}")
    db.sql("INSERT INTO person (id, email, note, n) VALUES (%s, 'new@x', 'new', 5)", new)
    seen = db.sql("SELECT id, email, note, born FROM person WHERE id IN (5, %s) ORDER BY id", new)
    assert seen == [(5, "changed@x", f"changed {new}", None), (new, "new@x", "new", None)]
    with pytest.raises(psycopg.errors.CheckViolation):
        db.sql("INSERT INTO person (id, email, note) VALUES (9101, 'x', '')")


def test_what_is_killed_goes_on_with_the_same_call(started: Database) -> None:
    """It is killed in each phase: each call goes on where the one before was killed."""
    started.durable()
    before, rows = dump(started), started.sql(DIGEST)
    for call in ACTS.values():
        for phase, waiting in PHASES.items():
            with Database(started.stack, started.name) as db, waiting(db, call) as job:
                kill_backend(db.stack, job.pid)
                job.end()
            with Database(started.stack, started.name) as again:
                assert again.sql(DIGEST) == rows, phase
                assert again.one(IN_THE_CLEAR) == 0, phase
        with Database(started.stack, started.name) as again:
            again.sql(call)
            assert again.sql(DIGEST) == rows
    assert dump(started) == before


def test_what_is_aborted_leaves_no_trace(started: Database) -> None:
    for call in ACTS.values():
        before, rows = dump(started), started.sql(DIGEST)
        for phase in ("backfill", "old snapshots"):
            abort(started, call, phase)
            assert started.sql(DIGEST) == rows, phase
            assert dump(started) == before, phase
        started.sql(call)


@pytest.mark.parametrize("act", ACTS)
def test_what_nobody_carries_on_is_taken_back_by_name(started: Database, act: str) -> None:
    if act == "leave":
        started.sql(JOIN)
    before, rows = dump(started), started.sql(DIGEST)
    with PHASES["backfill"](started, ACTS[act]) as job:
        started.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        started.sql(WHOLE)
    assert "columns => '[\"" in (caught.value.diag.message_hint or "")
    started.sql({"join": LEAVE, "leave": JOIN}[act])
    assert started.sql(DIGEST) == rows
    assert dump(started) == before


@pytest.mark.parametrize("act", ACTS)
def test_offline_unprotect_ends_it_under_one_lock(person: Database, act: str) -> None:
    person.sql(VIEWS)
    plain, rows = dump(person), person.sql(DIGEST)
    person.sql(FIRST)
    if act == "leave":
        person.sql(JOIN)
    with PHASES["backfill"](person, ACTS[act]) as job:
        person.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    person.sql("CALL envelope.unprotect('person')")
    assert person.sql(DIGEST) == rows
    assert dump(person) == plain


INDEXES = """
CREATE UNIQUE INDEX one_note ON person (note, id); COMMENT ON INDEX one_note IS 'why';
ALTER TABLE person ADD CONSTRAINT day UNIQUE (born);
CREATE INDEX upper_note ON person (upper(note));
CREATE UNIQUE INDEX one_mail ON person (email);
CREATE STATISTICS both_of_them2 (mcv) ON note, n FROM person; ANALYZE person"""
INDEXED = """
CALL envelope.protect('person', '{"note": {"index": "drop"}, "born": {"search": "exact"}}', online => true)"""


@pytest.mark.parametrize("phase", [None, "backfill", "old snapshots", "last step"])
def test_indexes_and_search_columns_come_and_go(person: Database, phase: str | None) -> None:
    """A value is unique at every moment. What was cancelled goes on with the same call."""
    person.sql(INDEXES)
    person.sql(FIRST)
    before, rows = dump(person), person.sql("SELECT id, email, note, n, born FROM person ORDER BY id")
    for call in (INDEXED, LEAVE):
        if phase:
            with PHASES[phase](person, call) as job:
                _assert_unique(person)
                person.sql("SELECT pg_cancel_backend(%s)", job.pid)
            job.end()
        person.sql(call)
        _assert_unique(person)
        if call == INDEXED:
            assert person.sql("SELECT id FROM person WHERE born_search = date '2000-01-06'") == [(5,)]
        assert person.sql("SELECT id FROM person WHERE email_search = 'value 77'") == [(77,)]
        assert person.sql("SELECT id, email, note, n, born FROM person ORDER BY id") == rows
    assert dump(person) == before


def _assert_unique(db: Database) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql("INSERT INTO person (id, email, born) VALUES (9001, 'x', '2000-01-02')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql("INSERT INTO person (id, email) VALUES (9001, 'value 7')")


REFUSED = {
    "what is protected already": (
        "CALL envelope.protect('person', '[\"email\", \"note\"]', online => true)",
        psycopg.errors.DuplicateObject,
    ),
    "without online": ("CALL envelope.protect('person', '[\"note\"]')", psycopg.errors.DuplicateObject),
    "another scope": (
        "CALL envelope.protect('person', '[\"note\"]', scope => 'tenant', scope_column => 'n', online => true)",
        psycopg.errors.InvalidParameterValue,
    ),
    "another KEK": (
        "CALL envelope.protect('person', '[\"note\"]', kek => 'other', online => true)",
        psycopg.errors.InvalidParameterValue,
    ),
    "no such column": (
        "CALL envelope.protect('person', '[\"email_plain\"]', online => true)",
        psycopg.errors.InvalidParameterValue,
    ),
    "no such protected column": (
        "CALL envelope.unprotect('person', columns => '[\"note\"]', online => true)",
        psycopg.errors.UndefinedObject,
    ),
    "some columns without online": (
        "CALL envelope.unprotect('person', columns => '[\"email\"]')",
        psycopg.errors.FeatureNotSupported,
    ),
    "no names": (
        "CALL envelope.unprotect('person', columns => '{}', online => true)",
        psycopg.errors.InvalidParameterValue,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_before_anything_is_touched(person: Database, what: str) -> None:
    call, error = REFUSED[what]
    person.sql(FIRST)
    before = dump(person)
    with pytest.raises(error) as caught:
        person.sql(call)
    assert caught.value.diag.message_hint
    assert dump(person) == before


OBSTACLES = {
    "a reader of the base table": (
        "CREATE VIEW below AS SELECT id, note FROM person_encrypted",
        "reads the base table itself",
    ),
    "a copy of the values": ("CREATE MATERIALIZED VIEW copied AS SELECT note FROM person", "would stay readable"),
    "a trigger that looks at values": (
        "CREATE FUNCTION looks() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN NEW.n := length(NEW.note); RETURN NEW; END';"
        "CREATE TRIGGER looks BEFORE INSERT ON person_encrypted FOR EACH ROW EXECUTE FUNCTION looks()",
        "trigger looks",
    ),
    "a canary": ("SELECT envelope.plant_canary('person', '{\"id\": 7}', 'a note')", "canaries have keys of their own"),
    "a column with an upsert relation": ("CALL envelope.allow_upsert('person')", "upsert relation"),
    "an index that tokens cannot stand in for": ("CREATE INDEX upper_note ON person (upper(note))", "upper_note"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_stands_in_the_way_is_told(person: Database, obstacle: str) -> None:
    statement, told = OBSTACLES[obstacle]
    person.sql(FIRST)
    person.sql(statement)
    before = dump(person)
    with pytest.raises(psycopg.Error) as caught:
        person.sql(JOIN)
    assert caught.value.sqlstate in ("0A000", "55000")
    assert told in f"{caught.value.diag.message_primary} {caught.value.diag.message_detail}"
    assert dump(person) == before


def test_a_column_that_shares_an_index_with_one_that_stays_cannot_leave(person: Database) -> None:
    person.sql("CREATE UNIQUE INDEX mail_and_note ON person (email, note)")
    person.sql("CALL envelope.protect('person', '[\"email\", \"note\"]', online => true)")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        person.sql("CALL envelope.unprotect('person', columns => '[\"note\"]', online => true)")
    assert "mail_and_note is about email, too" in (caught.value.diag.message_detail or "")
    assert "whole table" in (caught.value.diag.message_hint or "")


def test_no_column_of_a_table_with_a_canary_leaves(person: Database) -> None:
    person.sql(FIRST)
    person.sql(JOIN)
    person.sql("SELECT envelope.plant_canary('person', '{\"id\": 7}', 'a note')")
    before = dump(person)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        person.sql(LEAVE)
    assert "canaries have keys of their own" in (caught.value.diag.message_detail or "")
    assert dump(person) == before


KINDS = {
    "protected offline": "",
    "row-level security": "ALTER TABLE person ENABLE ROW LEVEL SECURITY; CREATE POLICY every ON person USING (n >= 0)",
    "code of its own": "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    "CREATE TRIGGER quiet BEFORE INSERT OR UPDATE ON person FOR EACH ROW EXECUTE FUNCTION quiet()",
}


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_other_kinds(person: Database, kind: str) -> None:
    person.sql("REVOKE SELECT (id, note) ON person FROM bob")
    if KINDS[kind]:
        person.sql(KINDS[kind])
    person.sql(FIRST if KINDS[kind] else FIRST.replace(", online => true", ""))
    before, rows = dump(person), person.sql(DIGEST)
    with PHASES["backfill"](person, JOIN) as job:
        assert person.sql(DIGEST, user="alice") == rows
        person.sql("UPDATE person SET note = 'by alice' WHERE id = 8", user="alice")
        rows = person.sql(DIGEST)
    assert job.end() is None
    assert person.sql(DIGEST, user="alice") == rows
    person.sql(LEAVE)
    assert person.sql(DIGEST, user="alice") == rows
    assert dump(person) == before
    person.sql("CALL envelope.unprotect('person')")
    assert person.sql(DIGEST) == rows
