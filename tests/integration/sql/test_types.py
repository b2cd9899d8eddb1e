"""Every type a column can have comes back as the same bytes, whatever settings writer and reader have."""

from __future__ import annotations

import json
import string
from datetime import date
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.fix_stack import Database

TYPES = """
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;
CREATE SCHEMA far;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'h''appy');
CREATE TYPE pair AS (a text, b float8);
CREATE TYPE far.text AS (a timestamptz, b pair);
CREATE DOMAIN short AS text NOT NULL CHECK (length(VALUE) < 20);
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE DOMAIN list AS text[] CHECK (cardinality(VALUE) < 9);
CREATE DOMAIN flag AS bool;
CREATE DOMAIN blob AS bytea;
CREATE DOMAIN moment AS timestamptz;
"""

# What reader and writer may have set.
SETTINGS = {
    "DateStyle": ["ISO, MDY", "SQL, DMY", "German, YMD", "Postgres, MDY"],
    "TimeZone": ["UTC", "America/St_Johns", "Asia/Kathmandu", "Europe/Lisbon"],
    "IntervalStyle": ["postgres", "postgres_verbose", "sql_standard", "iso_8601"],
    "extra_float_digits": ["0", "-15", "3"],
    "bytea_output": ["hex", "escape"],
    "lc_monetary": ["C", "C.UTF-8"],
    "search_path": ["public", "far, public", ""],
    "standard_conforming_strings": ["on", "off"],
    "xmloption": ["content", "document"],
    "array_nulls": ["on", "off"],
    "row_security": ["on"],
}
some_settings = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SETTINGS.items()})

characters = st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
texts = st.text(characters, max_size=12) | st.sampled_from(["", " ", "NULL", "é'\\\n\t", "\\x41", "{}", "(,)", '"'])
names = st.text(string.ascii_letters, min_size=1, max_size=8)
floats = (st.floats(width=64).map(repr) | st.sampled_from(["NaN", "-0", "Infinity", "-Infinity", "5e-324", "0.1"])).map(
    lambda text: text.replace("inf", "Infinity")
)
small_floats = st.floats(width=32).map(repr).map(lambda text: text.replace("inf", "Infinity"))
numerics = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9).map(str)
days = st.dates(date(1, 1, 1), date(9999, 12, 31)).map(str) | st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "12345-06-07", "5874897-12-31", "0001-01-01"]
)
times = st.times().map(str) | st.just("24:00:00")
stamps = st.datetimes().map(str) | st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59.999999", "2024-02-29 23:59:59.999999"]
)
zones = st.sampled_from(["+00", "+05:45", "-12:59:59", "+15:59"])
zoned = st.tuples(st.datetimes(), zones).map(lambda pair: f"{pair[0]}{pair[1]}")
intervals = st.builds(
    lambda months, days, micros: f"{months} mons {days} days {micros} microseconds",
    st.integers(-9999, 9999),
    st.integers(-9999, 9999),
    st.integers(-(10**12), 10**12),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


def to_json(value: object) -> str:
    return json.dumps(value)


def array(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Array literals of one dimension, with NULLs."""
    quoted = items.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"') | st.just("NULL")
    return st.lists(quoted, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}")


def composite(*fields: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quoted = [field.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '""') + '"') for field in fields]
    return st.tuples(*(field | st.just("") for field in quoted)).map(lambda parts: "(" + ",".join(parts) + ")")


XML = '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE a [<!ENTITY e "é">]><a>&e;</a>'
pairs = composite(texts, floats)
int_ranges = st.tuples(st.integers(-99, 0), st.integers(1, 99)).map("[{0[0]},{0[1]})".format) | st.sampled_from(
    ["empty", "(,)", "[5,)"]
)
COLUMNS: dict[str, tuple[str, st.SearchStrategy[str]]] = {
    "text": ("text", texts),
    "varchar": ("varchar(12)", texts),
    "char": ("char(12)", texts.map(str.rstrip)),
    "bpchar": ("bpchar", texts),
    "name": ("name", names),
    "quoted_char": ('"char"', names.map(lambda text: text[0])),
    "citext": ("citext", texts),
    "collated": ('text COLLATE "C"', texts),
    "int2": ("int2", st.integers(-(2**15), 2**15 - 1).map(str)),
    "int4": ("int4", st.integers(-(2**31), 2**31 - 1).map(str)),
    "int8": ("int8", st.integers(-(2**63), 2**63 - 1).map(str)),
    "numeric": ("numeric", numerics | st.sampled_from(["NaN", "Infinity", "-Infinity", "1.000", "-0.0", "1e-200"])),
    "scaled": ("numeric(14,2)", numerics),
    "float4": ("float4", small_floats),
    "float8": ("float8", floats),
    "bool": ("bool", st.sampled_from(["t", "f"])),
    "flag": ("flag", st.sampled_from(["t", "f"])),
    "uuid": ("uuid", st.uuids().map(str)),
    "date": ("date", days),
    "time": ("time", times),
    "time3": ("time(3)", times),
    "timetz": ("timetz", st.tuples(times, zones).map("".join)),
    "timestamp": ("timestamp", stamps),
    "timestamptz": ("timestamptz", zoned | stamps),
    "timestamptz3": ("timestamptz(3)", zoned),
    "interval": ("interval", intervals),
    "interval_day": ("interval day to second(2)", intervals),
    "json": ("json", json_values.map(to_json) | st.just(' {"a" : 1, "a":2}')),
    "jsonb": ("jsonb", json_values.map(to_json)),
    "xml": ("xml", names.map("<{0}>x</{0}>".format) | st.sampled_from(["", "a<b/>c", XML])),
    "bytea": ("bytea", st.binary(max_size=20).map(lambda data: "\\x" + data.hex())),
    "blob": ("blob", st.binary(max_size=20).map(lambda data: "\\x" + data.hex())),
    "bits": ("bit(5)", st.text("01", min_size=5, max_size=5)),
    "varbits": ("bit varying", st.text("01", max_size=9)),
    "inet": ("inet", st.ip_addresses().map(str) | st.just("10.1.2.3/8")),
    "cidr": ("cidr", st.sampled_from(["10.0.0.0/8", "::/0", "1.2.3.4/32"])),
    "macaddr": ("macaddr", st.just("08:00:2b:01:02:03")),
    "texts": ("text[]", array(texts) | st.sampled_from(["[2:3]={a,NULL}", "{{a,b},{c,NULL}}"])),
    "bpchars": ("char(3)[]", array(st.text("abc ", max_size=3))),
    "floats": ("float8[]", array(floats)),
    "reals": ("float4[]", array(small_floats)),
    "moments": ("timestamptz[]", array(zoned)),
    "pairs": ("pair[]", array(pairs)),
    "int4range": ("int4range", int_ranges),
    "tstzrange": (
        "tstzrange",
        st.sampled_from(["empty", "[2024-01-01 12:00+05:45,infinity)", "(,2000-01-01 00:00+00]"]),
    ),
    "multirange": ("int4multirange", int_ranges.map(lambda text: "{" + text.replace("empty", "") + "}")),
    "mood": ("mood", st.sampled_from(["sad", "so so", "h'appy"])),
    "moods": ("mood[]", array(st.sampled_from(["sad", "so so", "h'appy"]))),
    "pair": ("pair", pairs),
    "far_text": ("far.text", composite(zoned, pairs)),
    "short": ("short", texts),
    "positive": ("positive", st.integers(1, 10**30).map(str)),
    "list": ("list", array(texts)),
    "moment": ("moment", zoned),
    "hstore": ("hstore", st.tuples(names, names).map('"{0[0]}"=>"{0[1]}", n=>NULL'.format)),
    "tsvector": ("tsvector", st.lists(names, max_size=3).map(" ".join)),
    "tsquery": ("tsquery", names),
    "point": ("point", st.tuples(floats, floats).map("({0[0]},{0[1]})".format)),
    "oid": ("oid", st.integers(0, 2**32 - 1).map(str)),
    "pg_lsn": ("pg_lsn", st.just("16/B374D848")),
    "jsonpath": ("jsonpath", st.just("$.a[*] ? (@ > 1)")),
}
NEVER_NULL = {"short"}


@pytest.fixture(scope="module")
def twins(shared_db: Database) -> Database:
    """`plain` and the protected `sealed`, with one column of each type, and an identity."""
    shared_db.sql(TYPES)
    columns = ", ".join(f"c_{name} {type}" for name, (type, _) in COLUMNS.items())
    for table in ("plain", "sealed"):
        shared_db.sql(f"CREATE TABLE {table} (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, {columns})")
    shared_db.sql("CALL envelope.protect('sealed', %s::jsonb)", to_json([f"c_{name}" for name in COLUMNS]))
    return shared_db


def configure(connection: psycopg.Connection[Any], chosen: dict[str, str]) -> None:
    for name, value in chosen.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def row(name: str) -> st.SearchStrategy[str | None]:
    values = COLUMNS[name][1]
    return values if name in NEVER_NULL else values | st.none()


rows = st.fixed_dictionaries({name: row(name) for name in COLUMNS})


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(values=rows, writer=some_settings, reader=some_settings)
def test_every_type_comes_back_as_the_same_bytes(
    twins: Database, values: dict[str, str | None], writer: dict[str, str], reader: dict[str, str]
) -> None:
    names = sql.SQL(", ").join(sql.Identifier(f"c_{name}") for name in values)
    marks = sql.SQL(", ").join(sql.SQL("%s") for _ in values)
    with twins.stack.connect(twins.name) as connection:
        insert = sql.SQL("INSERT INTO plain ({}) VALUES ({}) RETURNING id").format(names, marks)
        found = connection.execute(insert, list(values.values())).fetchone()
        configure(connection, writer)
        connection.execute("INSERT INTO public.sealed SELECT * FROM public.plain WHERE id = %s", found)
        # As it is rewritten with another key, too: every value is read and bound again.
        connection.execute("UPDATE public.sealed SET id = -id WHERE id = %s", found)
        configure(connection, reader)
        compared = sql.SQL(", ").join(
            sql.SQL("ROW(s.{0})::record OPERATOR(pg_catalog.*=) ROW(p.{0})::record").format(sql.Identifier(f"c_{name}"))
            for name in values
        )
        query = sql.SQL("SELECT {} FROM public.sealed s, public.plain p WHERE p.id = %s AND s.id = -p.id")
        same = connection.execute(query.format(compared), found).fetchone()
    assert same is not None
    differing = [name for name, alike in zip(values, same, strict=True) if not alike]
    assert differing == []


KEYS = {
    "text": ["a", "1:a", "12", "", "é \\"],
    "char(4)": ["a", "ab", "abcd"],
    "citext": ["Ab", "c"],
    "int8": ["-1", "9223372036854775807"],
    "numeric": ["1.00", "2.5", "NaN"],
    "float8": ["0.1", "-0", "1e300"],
    "bool": ["t", "f"],
    "uuid": ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
    "date": ["2024-02-03", "0044-03-15 BC", "infinity"],
    "timestamptz": ["2024-02-03 04:05:06+05:45", "infinity"],
    "interval": ["1 mon -3 days 4 hours", "00:00:01"],
    "bytea": ["\\x00ff", "\\x"],
    "text[]": ["{a,NULL}", "{}"],
    "tstzrange": ["[2024-01-01 00:00+00,)"],
    "mood": ["sad", "h'appy"],
    "pair": ["(a,0.1)", "(,)"],
    "far.text": ['("2024-01-01 00:00+00","(x,0.1)")'],
    "inet": ["10.0.0.1/8"],
    "positive": ["1.0"],
    "flag": ["t"],
    "ltree": ["a.b"],
    "name": ["n"],
    "oid": ["4294967295"],
}


@pytest.mark.parametrize("type_name", KEYS)
def test_a_key_of_any_type_binds_alike_under_any_settings(twins: Database, type_name: str) -> None:
    admin = twins.admin
    admin.prepare_threshold = None
    admin.execute("DROP TABLE IF EXISTS keyed_encrypted CASCADE")
    admin.execute(f"CREATE TABLE keyed (k {type_name} PRIMARY KEY, v text)")
    admin.execute("""CALL envelope.protect('keyed', '["v"]')""")
    for number, key in enumerate(KEYS[type_name]):
        admin.execute("INSERT INTO keyed VALUES (%s, %s)", (key, str(number)))
    expected = sorted(str(number) for number in range(len(KEYS[type_name])))
    for position in range(4):
        with twins.stack.connect(twins.name) as other:
            configure(other, {name: values[position % len(values)] for name, values in SETTINGS.items()})
            assert sorted(v for (v,) in other.execute("SELECT v FROM public.keyed")) == expected
            assert other.execute("UPDATE public.keyed SET v = v || ''").rowcount == len(expected)
    with twins.stack.connect(twins.name) as other:
        configure(other, {name: values[-1] for name, values in SETTINGS.items()})
        assert other.execute("DELETE FROM public.keyed").rowcount == len(expected)


key_parts = st.text("0123456789:a", max_size=3)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(key_parts, key_parts), min_size=2, max_size=6, unique=True))
@example([("1:", "a"), ("1", ":a"), ("", "1:1:a"), ("1:1:a", "")])
def test_composite_keys_of_texts_never_collide(twins: Database, keys: list[tuple[str, str]]) -> None:
    """An envelope copied to the row of any other key does not open there."""
    admin = twins.admin
    admin.execute(
        """DO $$ BEGIN IF to_regclass('public.two') IS NULL THEN
        CREATE TABLE two (a text, b text, v text, PRIMARY KEY (a, b)); CALL envelope.protect('two', '["v"]');
        END IF; END $$"""
    )
    admin.execute("DELETE FROM two_encrypted")
    for a, b in keys:
        admin.execute("INSERT INTO two VALUES (%s, %s, 'x')", (a, b))
    a, b = keys[0]
    admin.execute(
        "UPDATE two_encrypted t SET v = s.v FROM two_encrypted s"
        " WHERE (s.a, s.b) = (%s, %s) AND (t.a, t.b) <> (s.a, s.b)",
        (a, b),
    )
    for a, b in keys[1:]:
        with pytest.raises(psycopg.errors.DataCorrupted):
            admin.execute("SELECT v FROM two WHERE a = %s AND b = %s", (a, b))


@pytest.mark.parametrize("type_name", ["money", "money[]", "purse", "cash", "purse[]"])
def test_money_is_refused_however_deep(twins: Database, type_name: str) -> None:
    twins.sql(
        "DROP TYPE IF EXISTS purse CASCADE; DROP DOMAIN IF EXISTS cash CASCADE; DROP TABLE IF EXISTS rich;"
        "CREATE DOMAIN cash AS money; CREATE TYPE purse AS (n int, held cash)"
    )
    twins.sql(f"CREATE TABLE rich (id int PRIMARY KEY, v {type_name})")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        twins.sql("""CALL envelope.protect('rich', '["v"]')""")
    assert "holds money" in str(refused.value.diag.message_detail)
