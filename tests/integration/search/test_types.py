"""A search takes for equal what the column's type takes for equal, whatever the settings."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database, Fill

# Of each type values of which some are equal, and some nearly so.
TYPES = {
    "text": ["a", "A", "a ", "", "ä", "a\u0308", "\U0001f989", "'", "\\"],
    "varchar(5)": ["a", "a ", ""],
    "char(4)": ["a", "a ", "ab", "b"],
    "citext": ["a", "A", "ß", "ä", "Ä"],
    "numeric": ["1", "1.0", "1.000", "10", "1e1", "-0", "0", "0.0", "NaN", "0.1", "100", "1e30"],
    "numeric(9,3)": ["1", "1.0005", "1.001"],
    "float8": ["0", "-0", "1", "1.0", "NaN", "Infinity", "0.1", "1e300"],
    "float4": ["0", "-0", "0.1", "1.5"],
    "int2": ["0", "-1", "7"],
    "int4": ["0", "-1", "2147483647"],
    "int8": ["0", "9223372036854775807"],
    "bool": ["t", "f"],
    "uuid": ["00000000-0000-0000-0000-000000000001", "{00000000-0000-0000-0000-00000000000a}"],
    "inet": ["10.0.0.1", "10.0.0.1/32", "10.0.0.1/24", "::1"],
    "cidr": ["10.0.0.0/8", "10.0.0.0/16"],
    "macaddr": ["08:00:2b:01:02:03", "08-00-2b-01-02-03"],
    "date": ["2000-01-31", "1999-12-31", "infinity", "0044-03-15 BC"],
    "time": ["04:05:06", "24:00:00", "00:00:00"],
    "timestamp": ["2000-01-31 01:02:03", "2000-01-31 01:02:03.0000001", "-infinity"],
    "timestamptz": ["2000-01-31 01:02:03+00", "2000-01-31 02:02:03+01", "2000-01-31 01:02:03-01"],
    "bytea": ["\\x", "\\x00", "\\x61", "a"],
    "oid": ["0", "4294967295"],
    "mood": ["fine", "bad"],
    "short": ["a", "A", "ab"],
}
LISTED = {"text", "varchar(5)", "int2", "int4", "int8", "uuid", "inet", "cidr", "macaddr", "oid", "short"}
MAKE = """
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TYPE mood AS ENUM ('fine', 'bad'); CREATE DOMAIN short AS text CHECK (length(VALUE) < 3)"""
SETTINGS = """
SET DateStyle = 'German, DMY'; SET TimeZone = 'Asia/Kolkata'; SET extra_float_digits = 0; SET bytea_output = 'escape'"""


def columns() -> list[tuple[str, str]]:
    return [(f"c{number}", name) for number, name in enumerate(TYPES)]


def make(db: Database) -> None:
    """One wide table of all types, the protected one and its twin; each row one value of each type."""
    db.sql(MAKE)
    rows = max(map(len, TYPES.values()))
    for name in ("t", "plain"):
        db.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, {', '.join(f'{c} {kind}' for c, kind in columns())})")
        for row in range(rows):
            values = [values[row] if row < len(values) else None for values in TYPES.values()]
            marks = ", ".join(["%s"] * (len(values) + 1))
            db.sql(f"INSERT INTO {name} VALUES ({marks})", row, *values)
    wanted = ", ".join(f'"{column}": {{"search": {{"exact": {{"force": true}}}}}}' for column, _ in columns())
    db.sql(f"CALL envelope.protect('t', '{{{wanted}}}')")


@pytest.fixture
def table(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(make)


def test_equality_is_the_type_s_own(table: Database) -> None:
    for settings in ("", SETTINGS):
        if settings:
            table.sql(settings)
        for column, kind in columns():
            for value in TYPES[kind]:
                compare(table, column, kind, value)
        joined = "SELECT a.id, b.id FROM {t} a JOIN {t} b ON a.{c} = b.{c} ORDER BY 1, 2"
        for column, kind in columns():
            searched = table.sql(joined.format(t="t", c=f"{column}_search"))
            assert searched == table.sql(joined.format(t="plain", c=column)), kind


def compare(db: Database, column: str, kind: str, value: str) -> None:
    """By an untyped parameter, by a value of the type, and in an array of them."""
    for form in ("= %s", "= %s::{kind}", "= ANY (ARRAY[%s]::{kind}[])", "<> %s::{kind}"):
        condition = form.format(kind=kind)
        found = db.sql(f"SELECT id FROM t WHERE {column}_search {condition} ORDER BY 1", value)
        assert found == db.sql(f"SELECT id FROM plain WHERE {column} {condition} ORDER BY 1", value), (
            kind,
            form,
            value,
        )


def test_a_role_without_rights_searches_by_constants_of_each_type(table: Database) -> None:
    """PostgreSQL computes what it makes of a constant while it plans, with the rights of the role."""
    table.sql("GRANT SELECT ON t TO alice")
    alice = table.connect("alice")
    for column, kind in columns():
        for form in ("= %s", "= %s::{kind}", "= ANY (ARRAY[%s]::{kind}[])"):
            condition = f"{column}_search {form.format(kind=kind)}"
            found = alice.execute(f"SELECT id FROM t WHERE {condition}", [TYPES[kind][0]]).fetchall()
            assert (0,) in found, condition


def test_any_is_served_by_the_index_where_the_page_says_so(table: Database) -> None:
    table.sql("SET enable_seqscan = off")
    for column, kind in columns():
        query = f"EXPLAIN SELECT id FROM t WHERE {column}_search = ANY (ARRAY[NULL, NULL]::{kind}[])"
        plan = "\n".join(line for (line,) in table.sql(query))
        assert (f"t_{column}_search_idx" in plan) == (kind in LISTED), kind


def test_a_value_that_the_type_does_not_take_is_refused(table: Database) -> None:
    column = next(column for column, kind in columns() if kind == "date")
    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        table.sql(f"SELECT id FROM t WHERE {column}_search = 'tomorrow or so'")


UNFIT = {
    "interval": "its type is none of",
    "jsonb": "a jsonb has a contains search",
    "text[]": "its type is none of",
    "int4range": "its type is none of",
    "point": "its type is none of",
    "text COLLATE loose": "its collation is nondeterministic",
}


@pytest.mark.parametrize("kind", UNFIT)
def test_types_without_one_text_for_equal_values_are_refused(shared_db: Database, kind: str) -> None:
    db = shared_db
    db.sql("DROP TABLE IF EXISTS t; DROP COLLATION IF EXISTS loose")
    db.sql("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    db.sql(f"CREATE TABLE t (id int PRIMARY KEY, a {kind})")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        db.sql("""CALL envelope.protect('t', '{"a": {"search": "exact"}}')""")
    assert UNFIT[kind] in (caught.value.diag.message_detail or "")


def test_dates_are_found_by_their_year(db: Database) -> None:
    """In any DateStyle and time zone; each timestamptz by its year in UTC."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, d date, z timestamptz, b date)")
    db.sql(
        "INSERT INTO t VALUES (1, '1912-06-23', '1999-12-31 23:30:00-01', '0044-03-15 BC'),"
        " (2, '1912-01-01', '1999-12-31 22:30:00-01', '0044-03-15'), (3, '1913-01-01', NULL, 'infinity')"
    )
    year = '{"search": {"exact": {"normalize": "year"}}}'
    db.sql(f"""CALL envelope.protect('t', '{{"d": {year}, "z": {year}, "b": {year}}}')""")
    db.sql("SET DateStyle = German; SET TimeZone = 'Asia/Tokyo'")
    found = "SELECT array_agg(id ORDER BY id) FROM t WHERE {}"
    assert db.one(found.format("d_search = date '31.12.1912'")) == [1, 2]
    assert db.one(found.format("d_search = '01.01.1913'")) == [3]
    assert db.one(found.format("z_search = timestamptz '2000-06-01 00:00:00+00'")) == [1]
    assert db.one(found.format("b_search = date '0044-12-31 BC'")) == [1]
    assert db.one(found.format("b_search = date 'infinity'")) == [3]


def test_a_telephone_number_is_found_however_it_is_written(db: Database) -> None:
    db.sql("CREATE TABLE caller (id int PRIMARY KEY, phone text)")
    db.sql("INSERT INTO caller VALUES (1, '030 1234567'), (2, '+44 20 7946 0000'), (3, 'unknown')")
    wanted = '{"phone": {"search": {"exact": {"normalize": "phone-DE"}}, "unique": true}}'
    db.sql("CALL envelope.protect('caller', %s::jsonb)", wanted)
    for written, number in [("+49 (30) 123-4567", 1), ("0044 20 79460000", 2), ("unknown ", 3)]:
        assert db.sql("SELECT id FROM caller WHERE phone_search = %s", written) == [(number,)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql("INSERT INTO caller VALUES (4, '0049301234567')")
    with pytest.raises(psycopg.Error, match="there is no such region"):
        db.sql("""CALL envelope.add_search('caller', 'phone', '{"exact": {"normalize": "phone-XX", "as": "x"}}')""")
