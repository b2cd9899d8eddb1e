"""verify() compares tokens with values: a search that would not find a row, or would find another one, is told."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database

PROTECT = """
CALL envelope.protect('t', '{"a": {"search": ["exact", {"exact": {"normalize": "casefold", "as": "loose"}}]},
    "n": {"search": {"exact": {"force": true}}}}')"""
FAULTS = """
SELECT "column", (row_key ->> 'id')::int, reason FROM envelope.faults WHERE found_by = 'verify' ORDER BY 1, 2"""
# What becomes of a row's token, and of which column; row 1 has another value than all others.
TAMPERED = {
    "another row's": ("a_search = (SELECT x.a_search FROM t_encrypted x WHERE x.id = 1)", "a"),
    "another search column's": ("loose = a_search", "a"),
    "missing": ("loose = NULL", "a"),
    "of a number": ("n_search = (SELECT x.n_search FROM t_encrypted x WHERE x.id = 1)", "n"),
}


@pytest.fixture
def table(db: Database) -> Database:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, n numeric); INSERT INTO t VALUES (1, 'One', 1.10)")
    db.sql("INSERT INTO t SELECT i, 'Value ' || i, i * 1.50 FROM generate_series(2, 30) i")
    db.sql("INSERT INTO t VALUES (31, NULL, NULL), (32, '', 0)")
    db.sql(PROTECT)
    return db


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(2, 30), st.sampled_from(sorted(TAMPERED)), max_size=5))
def test_exactly_the_rows_with_wrong_tokens_are_listed(table: Database, tampered: dict[int, str]) -> None:
    before = table.sql("SELECT id, a_search::text, loose::text, n_search::text FROM t_encrypted")
    for row, how in tampered.items():
        table.sql(f"UPDATE t_encrypted SET {TAMPERED[how][0]} WHERE id = {row}")
    table.sql("CALL envelope.verify('t')")
    expected = sorted((TAMPERED[how][1], row, "wrong token") for row, how in tampered.items())
    assert table.sql(FAULTS) == expected
    for row, a, loose, n in before:
        values = [
            f"{name} = '{token}'" for name, token in (("a_search", a), ("loose", loose), ("n_search", n)) if token
        ]
        if values:
            table.sql(f"UPDATE t_encrypted SET {', '.join(values)} WHERE id = {row}")
    table.sql("CALL envelope.verify('t')")
    assert table.sql(FAULTS) == []


def test_a_token_that_outlived_its_value_is_listed(table: Database) -> None:
    table.sql("SET session_replication_role = replica; UPDATE t_encrypted SET a = NULL WHERE id = 9")
    table.sql("RESET session_replication_role")
    table.sql("CALL envelope.verify('t')")
    assert table.sql(FAULTS) == [("a", 9, "wrong token")]


def test_a_value_that_does_not_open_is_told_as_that(table: Database) -> None:
    table.sql("UPDATE t_encrypted SET a = set_byte(a, 19, get_byte(a, 19) # 128) WHERE id = 9")
    table.sql("UPDATE t_encrypted SET a_search = NULL WHERE id IN (9, 10)")
    table.sql("CALL envelope.verify('t')")
    assert table.sql(FAULTS) == [("a", 9, "does not open"), ("a", 10, "wrong token")]


def test_new_tokens_mend_them(table: Database) -> None:
    table.sql("UPDATE t_encrypted SET a_search = NULL WHERE id < 20")
    assert table.sql("SELECT id FROM t WHERE a_search = 'Value 7'") == []
    table.sql("CALL envelope.rotate_search('t', 'a', 'a_search')")
    assert table.sql("SELECT id FROM t WHERE a_search = 'Value 7'") == [(7,)]
    table.sql("CALL envelope.verify('t')")
    assert table.sql(FAULTS) == []


def test_a_wrong_token_does_not_stop_unprotect(table: Database) -> None:
    table.sql("UPDATE t_encrypted SET a_search = NULL WHERE id < 20; CALL envelope.unprotect('t')")
    assert table.one("SELECT count(*) FROM t WHERE a = 'Value 7'") == 1


def test_no_message_shows_a_value_or_a_token(table: Database) -> None:
    table.sql("UPDATE t_encrypted SET a_search = NULL WHERE id < 20")
    notices: list[str] = []

    def note(told: psycopg.errors.Diagnostic) -> None:
        notices.append(f"{told.message_primary} {told.message_detail} {told.message_hint}")

    table.admin.add_notice_handler(note)
    table.sql("CALL envelope.verify('t')")
    said = " ".join(notices)
    assert "wrong token: 19" in said
    assert "Value" not in said
