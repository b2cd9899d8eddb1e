"""Ranges are found by the index, and with the value's own condition exactly as on the plain table."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database

# Of each type: the bucket, and the type of its ranges.
KINDS = {
    "date": ('"month"', "daterange"),
    "timestamp": ('"day"', "tsrange"),
    "timestamptz": ('"year"', "tstzrange"),
    "int2": ("7", "int4range"),
    "int4": ("100", "int4range"),
    "int8": ("1000000", "int8range"),
    "numeric": ('"0.25"', "numrange"),
    "float8": ("0.1", "numrange"),
}
# Ends of buckets, and what types have beside plain values.
VALUES = {
    "date": "infinity, -infinity, 0044-03-15 BC, 0001-01-01, 1499-12-31, 1500-01-01, 1990-01-31, 1990-02-01, "
    " 1991-01-01, 2000-02-29, 2024-12-31, 2025-01-01, 2499-12-31, 2500-01-01, 5874897-12-31",
    "timestamp": "infinity, -infinity, 0044-03-15 10:00 BC, 1990-01-31 23:59:59.999999, 1990-02-01 00:00,"
    " 1990-02-01 00:00:00.000001, 1991-01-01 00:00, 2024-12-31 12:00, 2500-01-01 00:00, 294276-12-31 23:00",
    "timestamptz": "infinity, -infinity, 0044-03-15 10:00+00 BC, 1990-12-31 23:59:59+00, 1991-01-01 00:00+00,"
    " 1991-01-01 00:00+12, 1990-12-31 20:00-11, 2024-06-01 12:00+02, 2500-01-01 00:00-05",
    "int2": "0, -1, 6, 7, -7, 32767, -32768",
    "int4": "0, -1, 99, 100, -100, 2147483646, -2147483648, 10000000, -10000000",
    "int8": "0, -1, 999999, 1000000, 9223372036854775806, -9223372036854775808",
    "numeric": "NaN, Infinity, -Infinity, 0, -0.25, 0.25, 0.2499999999999999999999, 1e300, -1e300, 25000.00",
    "float8": "NaN, Infinity, -Infinity, 0, -0, 0.1, 0.3, 0.7, 0.30000000000000004, 1e-300, 1.7e308, -1e20",
}
# More rows of each type, and further bounds.
ROWS = {
    "date": "date '1985-01-01' + i * 37",
    "timestamp": "timestamp '1985-01-01' + i * interval '37 hours'",
    "timestamptz": "timestamptz '1985-01-01 00:00+00' + i * interval '99 days'",
    "numeric": "(i - 150) * 0.07",
    "float8": "(i - 150) * 0.07::float8",
}
BOUNDS = {
    "date": st.dates().map(str),
    "timestamp": st.datetimes().map(str),
    "timestamptz": st.datetimes().map(lambda at: f"{at}+00"),
    "int4": st.integers(-(2**31), 2**31 - 1).map(str),
    "int2": st.integers(-(2**15), 2**15 - 1).map(str),
    "int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=3).map(
        str
    ),
    "float8": st.floats(allow_nan=False, allow_infinity=False, width=32).map(str),
}


def protect(bucket: str, more: str = "") -> str:
    return f"""CALL envelope.protect('t', '{{"v": {{"search": {{"range": {{"bucket": {bucket}}}}}}}}}'{more})"""


def make(db: Database, kind: str, bucket: str, values: list[str], before: str = "", more: str = "") -> None:
    """`t`, protected, and `twin`, with the same rows in the clear."""
    db.sql(f"CREATE TABLE t (id int PRIMARY KEY, v {kind}); CREATE TABLE twin (LIKE t)")
    for number, value in enumerate([*values, None]):
        db.admin.execute(f"INSERT INTO twin VALUES (%s, %s::text::{kind})", (number, value))  # type: ignore[arg-type]
    db.sql(f"INSERT INTO twin SELECT i, {ROWS.get(kind, 'i - 150')} FROM generate_series(100, 400) i")
    db.sql("INSERT INTO t TABLE twin")
    if before:
        db.sql(before)
    db.sql(protect(bucket, more))


@pytest.mark.parametrize("kind", KINDS)
def test_each_range_finds_what_the_plain_table_has(db: Database, kind: str) -> None:
    """The candidates hold the answer, and the second condition leaves the answer, under any settings of the session."""
    (bucket, sought), values = KINDS[kind], VALUES[kind].split(", ")
    make(db, kind, bucket, values)
    db.sql("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    bounds = st.none() | st.sampled_from(values) | BOUNDS[kind]

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
    )
    @given(
        bounds, bounds, st.sampled_from(["[]", "[)", "(]", "()"]), st.sampled_from(["ISO, YMD", "SQL, DMY", "German"])
    )
    def compared(low: str | None, high: str | None, ends: str, style: str) -> None:
        """A range that PostgreSQL refuses is not asked for."""
        db.sql(f"SET DateStyle = '{style}'; SET TimeZone = 'Pacific/Auckland'")
        ranged = f"{sought}(%(low)s::text::{sought_of(kind)}, %(high)s::text::{sought_of(kind)}, '{ends}')"
        ends_at = {"low": low, "high": high}
        decided = decide(kind, low, high, ends)
        try:
            answer = run(db, f"SELECT id FROM twin WHERE {decided}", ends_at)
            db.admin.execute(f"SELECT {ranged}", ends_at)  # type: ignore[arg-type]
        except psycopg.DataError:
            assume(False)
        found = run(db, f"SELECT id FROM t WHERE v_range <@ {ranged}", ends_at)
        mirrored = run(db, f"SELECT id FROM t WHERE {ranged} @> v_range", ends_at)
        both = run(db, f"SELECT id FROM t WHERE v_range <@ {ranged} AND {decided}", ends_at)
        assert set(found) >= set(answer)
        assert mirrored == found
        assert both == answer

    compared()


def sought_of(kind: str) -> str:
    """The type of a range's bounds."""
    return {"int2": "int4", "float8": "numeric"}.get(kind, kind)


def decide(kind: str, low: str | None, high: str | None, ends: str) -> str:
    bound = sought_of(kind)
    begin = f"v {'>=' if ends[0] == '[' else '>'} %(low)s::text::{bound}" if low else "v IS NOT NULL"
    end = f"v {'<=' if ends[1] == ']' else '<'} %(high)s::text::{bound}" if high else "v IS NOT NULL"
    return f"{begin} AND {end}"


def run(db: Database, query: str, values: dict[str, Any]) -> list[int]:
    return [number for (number,) in db.admin.execute(query + " ORDER BY id", values)]  # type: ignore[arg-type]
