"""unprotect(online) of tables with search columns: the indexes of values come back while the table is in use."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import DIGEST, PHASES
from tests.integration.online.test_tokens import INDEXES, NAMES, UNPROTECT, assert_unique
from tests.integration.operations.test_crash import kill_backend
from tests.integration.sql.test_there_and_back import dump

FURTHER = """
CREATE INDEX upper_note ON person (upper(note)) INCLUDE (n) WHERE note <> '';
COMMENT ON INDEX upper_note IS 'for reports';
CREATE INDEX email_parts ON person USING gin (to_tsvector('simple', email));
ALTER TABLE person ADD CONSTRAINT alike UNIQUE (born, note);
ALTER TABLE person ADD CONSTRAINT late UNIQUE (email, id) DEFERRABLE;
CREATE STATISTICS both_of_them (mcv) ON email, n FROM person; ANALYZE person"""
WANTED = """{"email": {"index": "drop"}, "note": {"index": "drop"}, "born": {}}"""
PROTECT = f"CALL envelope.protect('person', '{WANTED}', online => true)"
OF_VALUES = "SELECT relname FROM pg_class WHERE relkind = 'i' AND relname LIKE '%pg_envelope_next' ORDER BY 1"
# In these phases the roll-out has begun.
BEGUN = ("backfill", "old snapshots", "last step")
BUILT = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'person'::regclass AND pg_relation_size(c.oid) > 8192 ORDER BY 1"""


@pytest.fixture
def indexed(person: Database) -> Database:
    person.sql(INDEXES)
    person.sql(FURTHER)
    return person


def test_it_is_the_same_table_again(indexed: Database) -> None:
    schema, rows, names = dump(indexed), indexed.sql(DIGEST), indexed.sql(BUILT)
    indexed.sql(PROTECT)
    gone = {"upper_note", "email_parts", "late"}
    assert gone.isdisjoint(name for name, _ in indexed.sql(NAMES))
    assert indexed.one("SELECT count(*) FROM pg_statistic_ext") == 0
    assert_unique(indexed)
    indexed.sql(UNPROTECT)
    assert indexed.sql(DIGEST) == rows
    assert indexed.sql(BUILT) == names
    assert dump(indexed) == schema


@pytest.mark.parametrize("phase", BEGUN)
def test_it_is_stopped_in_any_phase(indexed: Database, phase: str) -> None:
    """Every value is unique at every moment, and searches find every row."""
    schema, rows = dump(indexed), indexed.sql(DIGEST)
    indexed.sql(PROTECT)
    protected, seen = dump(indexed), indexed.sql(DIGEST)
    for goes_back in ("by the opposite call", "by abort()"):
        _stop(indexed, phase, by_abort=goes_back == "by abort()" and phase != "last step")
        if goes_back == "by the opposite call" or phase == "last step":
            indexed.sql(PROTECT)
        assert indexed.sql(OF_VALUES) == []
        assert_unique(indexed)
        assert indexed.sql(DIGEST) == seen
        assert dump(indexed) == protected
    for call in (UNPROTECT, "CALL envelope.unprotect('person')"):
        _stop(indexed, phase, by_abort=False)
        indexed.sql(call)
        assert indexed.sql(DIGEST) == rows
        assert dump(indexed) == schema
        if call == UNPROTECT:
            indexed.sql(PROTECT)


def _stop(db: Database, phase: str, *, by_abort: bool) -> None:
    with PHASES[phase](db, UNPROTECT) as job:
        if phase != "last step":
            assert_unique(db)
            db.sql("UPDATE person SET note = note WHERE id = 5")
            assert db.sql("SELECT id FROM person WHERE email_search = 'value 77'") == [(77,)]
        if by_abort:
            assert db.one("SELECT envelope.abort('person')") == 1
        else:
            db.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()


@pytest.mark.parametrize("phase", BEGUN)
def test_it_is_killed_in_any_phase_and_goes_on(indexed: Database, phase: str) -> None:
    indexed.durable()
    schema, rows = dump(indexed), indexed.sql(DIGEST)
    indexed.sql(PROTECT)
    with PHASES[phase](indexed, UNPROTECT) as job:
        kill_backend(indexed.stack, job.pid)
    job.end()
    with Database(indexed.stack, indexed.name) as again:
        assert_unique(again)
        again.sql(UNPROTECT)
        assert again.sql(DIGEST) == rows
        assert dump(again) == schema
