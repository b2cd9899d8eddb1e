"""The client's text of a value is PostgreSQL's own: by many values of each type."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pg_envelope import errors
from pg_envelope_client.sealing.types import codec
from stack.stack import Stack
from tests.fix_stack import COPY, Database

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(lambda n: -300 < n.adjusted() < 300)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=10,
)
ZONES = st.integers(-15 * 60 + 1, 15 * 60 - 1).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "character varying(5)": TEXTS,
    "character(5)": TEXTS,
    "smallint": st.integers(-40_000, 40_000),
    "integer": st.integers(-(2**32), 2**32),
    "bigint": st.integers(-(2**64), 2**64),
    "numeric": NUMBERS,
    "numeric(6,2)": st.decimals(-20_000, 20_000, places=3),
    "numeric(4,0)": st.decimals(-20_000, 20_000, places=1),
    "real": st.floats(width=32) | st.floats(-1e6, 1e6, width=32),
    "double precision": st.floats() | st.floats(-1e17, 1e17),
    "boolean": st.booleans(),
    "uuid": st.uuids(),
    "bytea": st.binary(max_size=20),
    "date": st.dates(),
    "time without time zone": st.times(),
    "time with time zone": st.times(timezones=ZONES),
    "timestamp without time zone": st.datetimes(),
    "timestamp with time zone": st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=ZONES),
    "jsonb": JSON,
}
REFUSED = (psycopg.errors.DataError,)


@pytest.fixture(scope="module")
def ask(stack: Stack) -> Iterator[Callable[[str, Any], str | None]]:
    """PostgreSQL's canonical text of a value as an INSERT would store it; None when it refuses the value."""
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE canonical {COPY}")
    database = Database(stack, "canonical")
    database.sql("CREATE SCHEMA canonical")

    def text(kind: str, value: Any) -> str | None:
        database.sql(f'CREATE TABLE IF NOT EXISTS canonical."{kind}" (v {kind})')
        sent = Jsonb(value) if kind == "jsonb" else value
        try:
            statement = f'INSERT INTO canonical."{kind}" VALUES (%s) RETURNING envelope_internal.canonical(v)'
            return str(database.one(statement, sent))
        except REFUSED:
            return None

    yield text
    database.close()
    with stack.connect("postgres") as connection:
        connection.execute("DROP DATABASE canonical")


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
@settings(max_examples=150)
def test_a_text_is_the_server_s(ask: Callable[[str, Any], str | None], kind: str, data: st.DataObject) -> None:
    value, mine = data.draw(VALUES[kind]), codec(kind)
    theirs = ask(kind, value)
    try:
        found = mine.write(value)
    except errors.BadInput:
        found = None
    assert found == theirs
    if found is not None:
        back = mine.read(found)
        assert mine.write(back) == found
        if kind in ("integer", "uuid", "date", "boolean", "bytea", "time without time zone"):
            assert back == value or getattr(value, "fold", 0)


BEYOND = {
    "date": ["infinity", "-infinity", "0044-03-15 BC", "99999-12-31"],
    "timestamp without time zone": ["infinity", "0044-03-15 12:00:00.5 BC", "294276-12-31 23:59:59.999999"],
    "timestamp with time zone": ["-infinity", "0001-01-01 00:00:00+00 BC"],
    "time without time zone": ["24:00:00"],
}


@pytest.mark.parametrize("kind", BEYOND)
def test_what_python_has_not_is_text(ask: Callable[[str, Any], str | None], kind: str) -> None:
    for text in BEYOND[kind]:
        assert codec(kind).write(text) == text == ask(kind, text)
        assert codec(kind).read(text) == text
    for wrong in ("infinity x", "2026-01-01", "2026-1-1 BC", "x"):
        with pytest.raises(errors.BadInput):
            codec(kind).write(wrong)


def test_numbers_that_are_none() -> None:
    assert codec("numeric").write(Decimal("NaN")) == codec("real").write(math.nan) == "NaN"
    with pytest.raises(errors.BadInput):
        codec("numeric(4,2)").write(Decimal("Infinity"))
