"""envelope.prefetch(): as many keys as a session holds, counted for each column, tenant or subject, and version."""

from __future__ import annotations

import json

import pytest

from pg_envelope.backend.session_keys import MAX_KEYS
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

COLUMNS = 200
ALL = "SELECT envelope.prefetch('wide', ARRAY(SELECT person::text FROM wide WHERE person <= {}))"


@pytest.fixture
def wide(db: Database) -> Database:
    """As many subjects as fill a session's keyring in all columns, and one more."""
    names = [f"c{number}" for number in range(COLUMNS)]
    db.sql(f"CREATE TABLE wide (person int PRIMARY KEY, {', '.join(f'{name} text' for name in names)})")
    db.sql("CALL envelope.protect('wide', %s::jsonb, scope => 'subject', scope_column => 'person')", json.dumps(names))
    db.sql(f"INSERT INTO wide (person, c0) SELECT i, 'x' FROM generate_series(1, {MAX_KEYS // COLUMNS + 1}) i")
    return db


def test_what_a_session_cannot_hold_is_refused_before_it_is_fetched(wide: Database) -> None:
    reader, full = wide.connect(), MAX_KEYS // COLUMNS
    sqlstate, text, _ = failure(reader, ALL.format(full + 1))
    assert (sqlstate, text) == ("22023", f"pg_envelope: a session holds {MAX_KEYS} keys")
    assert reader.execute(ALL.format(full)).fetchall() == [(MAX_KEYS,)]
    wide.sql("SELECT envelope.rotate('wide', '1')")
    assert failure(reader, ALL.format(full))[0] == "22023", "a second version is another key"
    assert reader.execute(f"SELECT count(c0) FROM wide WHERE person <= {full}").fetchall() == [(full,)]
