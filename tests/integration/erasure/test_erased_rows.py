"""`erased => 'null'`: NULL in the erased subject's own rows; what else names the destroyed key is a bad envelope."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database, Fill

# Primary key, and how the column is bound.
LAYOUTS = [("id", "row"), ("id", "column"), ("who, id", "row"), ("id, who", "row"), ("who, id", "column")]


@functools.cache
def fill(key: str, bind: str) -> Fill:
    """Makes visit (id, who, note) of two subjects, the first of whom was erased."""

    def make(db: Database) -> None:
        db.sql(f"CREATE TABLE visit (id int, who text NOT NULL, note text, PRIMARY KEY ({key}))")
        columns = json.dumps({"note": {"bind": bind}})
        db.sql(
            "CALL envelope.protect('visit', %s::jsonb, scope => 'subject', scope_column => 'who', erased => 'null')",
            columns,
        )
        db.sql(
            "INSERT INTO visit VALUES (1, '1:ann', 'one'), (2, 'ben', 'two'), (3, '1:ann', 'three'),"
            " (4, '5:1:ann', 'x')"
        )
        db.sql("CALL envelope.shred('visit', '1:ann', 'test')")

    return make


@pytest.fixture(params=LAYOUTS, ids=str)
def visits(filled: Callable[[Fill], Database], request: pytest.FixtureRequest) -> Database:
    """The key of the erased subject is gone for all copies, and these tests destroy no other."""
    return filled(fill(*request.param))


def test_the_erased_subjects_own_rows_are_null(visits: Database) -> None:
    assert visits.sql("SELECT id, note FROM visit ORDER BY id") == [(1, None), (2, "two"), (3, None), (4, "x")]


@pytest.mark.parametrize(
    "forged",
    [
        "(SELECT note FROM visit_encrypted WHERE id = 1)",
        "substr((SELECT note::bytea FROM visit_encrypted WHERE id = 1), 1, 6) || repeat('x', 40)::bytea",
    ],
)
@pytest.mark.parametrize("row", [2, 4])
def test_another_subjects_row_that_names_the_key_is_an_error(visits: Database, forged: str, row: int) -> None:
    visits.sql(f"UPDATE visit_encrypted SET note = {forged} WHERE id = {row}")
    for _ in range(2):
        with pytest.raises(psycopg.errors.DataCorrupted, match="cannot be opened"):
            visits.sql(f"SELECT note FROM visit WHERE id = {row}")


def test_a_suite_that_the_column_never_had_is_an_error(visits: Database) -> None:
    visits.sql("UPDATE visit_encrypted SET note = set_byte(note, 1, 3) WHERE id = 1")
    with pytest.raises(psycopg.errors.DataCorrupted, match="cannot be opened"):
        visits.sql("SELECT note FROM visit WHERE id = 1")
