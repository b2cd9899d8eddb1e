"""Canonical text is the type's own output and input, under every setting and beside any cast that a user makes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

# One value, at least, of each kind of type whose text could depend on something.
VALUES = {
    "text": "E'a\\\\b''\"é'",
    "char(5)": "'ab'",
    '"char"': "'x'",
    "name": "'A b'",
    "bool": "true",
    "int8": "-9007199254740993",
    "numeric": "1.500",
    "float4": "0.1",
    "float8": "0.30000000000000004",
    "oid": "4294967295",
    "uuid": "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
    "date": "'2001-02-03'",
    "time": "'04:05:06.789012'",
    "timetz": "'04:05:06.789+05:45'",
    "timestamp": "'0044-03-04 05:06:07.8 BC'",
    "timestamptz": "'2001-02-03 04:05:06.789012+05:45'",
    "interval": "'-1 year 2 mons -3 days 04:05:06.7'",
    "bytea": r"'\x005cff'",
    "blob": r"'\x005cff'",
    "json": """' {"a": 1.0, "a": null}'""",
    "jsonb": """'{"b": [1.50, "\\u00e9"]}'""",
    "jsonpath": "'$.a[*] ? (@ > 1)'",
    "xml": """'<?xml version="1.0" encoding="UTF-8"?><a/>'""",
    "bit(3)": "B'101'",
    "varbit": "B'10110'",
    "inet": "'10.1.2.3/8'",
    "cidr": "'10.0.0.0/8'",
    "macaddr": "'08:00:2b:01:02:03'",
    "macaddr8": "'08:00:2b:01:02:03:04:05'",
    "pg_lsn": "'16/B374D848'",
    "xid8": "'18446744073709551615'",
    "tid": "'(1,2)'",
    "pg_snapshot": "'10:20:10,14'",
    "tsvector": "$$'a b':1A,2 'the':3$$",
    "tsquery": "$$'a b' & !c:*$$",
    "point": "'(0.1,-0)'",
    "line": "'{1,0.1,-3}'",
    "box": "'(0.3,0.4),(0.1,0.2)'",
    "path": "'[(0.1,0.2),(3,4)]'",
    "polygon": "'((0.1,0.2),(3,4),(5,6))'",
    "circle": "'<(0.1,0.2),0.30000000000000004>'",
    "int2vector": "'1 -2'",
    "int4range": "'[1,5)'",
    "numrange": "'(1.50,)'",
    "daterange": "'[2001-02-03,2001-03-02)'",
    "tstzrange": "'[2001-02-03 04:05:06+05:45,infinity)'",
    "tstzmultirange": "'{[2001-02-03 04:05:06+05:45,2001-03-02 00:00+00)}'",
    "mood": "'NULL'",
    "moment": "'2001-02-03 04:05:06+05:45'",
    "text[]": """ARRAY['NULL', NULL, 'null', '', 'a"b\\c']""",
    "xid[]": "'{1,NULL}'",
    "timestamptz[]": "ARRAY['2001-02-03 04:05:06+05:45'::timestamptz, NULL]",
    "bytea[]": r"ARRAY['\x005c'::bytea, NULL]",
    "mood[]": "ARRAY['NULL'::mood, NULL]",
    "list": "ARRAY[0.1::float8, NULL]",
    "part": r"""ROW(E'a\\"b, ', ARRAY['NULL', NULL], '\x00', 0.1, '2001-02-03', '1 mon', 'NULL')""",
    "part[]": r"""ARRAY[ROW('', ARRAY[NULL, 'x'], '\x00', 0.1, '2001-02-03', '1 mon', 'NULL'), NULL]::part[]""",
    "place": r"""ROW(NULL, ARRAY[NULL], NULL, NULL, NULL, NULL, NULL)""",
    "lists": "lists(ARRAY['a', NULL], ARRAY['b'])",
    "hstore": """'"a"=>NULL, b=>"NULL"'""",
    "citext": "'Ab'",
}
TYPES = """
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('sad', 'NULL', '04.03.2001');
CREATE TYPE part AS (a text, b text[], c bytea, d float8, e date, f interval, g mood);
CREATE DOMAIN moment AS timestamptz;
CREATE DOMAIN blob AS bytea;
CREATE DOMAIN list AS float8[];
CREATE DOMAIN place AS part;
CREATE TYPE lists AS RANGE (subtype = text[]);
"""
# What a session cannot set there and then, or what ends or forbids every statement, whatever the types.
NOT_ABOUT_VALUES = {
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "max_stack_depth",
    "role",
    "session_authorization",
    "statement_timeout",
    "temp_file_limit",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
}
SETTINGS = """
SELECT name, vartype, enumvals, min_val, max_val, setting FROM pg_settings
WHERE context IN ('user', 'superuser') AND name <> ALL (%s) ORDER BY name"""
# Texts whose values pg_settings does not list.
TEXTS = {
    "DateStyle": ["SQL, DMY", "German", "Postgres, MDY", "ISO, DMY"],
    "TimeZone": ["Asia/Kathmandu", "America/St_Johns", "<+05:45>-5:45"],
    "timezone_abbreviations": ["Australia", "India"],
    "search_path": ["far, public", "", "far, pg_catalog, public"],
    "lc_monetary": ["C.UTF-8"],
    "lc_numeric": ["C.UTF-8"],
    "lc_time": ["C.UTF-8"],
    "lc_messages": ["C.UTF-8"],
    "default_text_search_config": ["simple", "german"],
    "client_encoding": ["LATIN1", "SQL_ASCII", "WIN1252"],
    "application_name": ["x"],
    "plpgsql.extra_errors": ["all"],
}


def unusual(vartype: str, enumvals: list[str] | None, low: str, high: str, setting: str) -> list[str]:
    if vartype == "bool":
        return ["off" if setting == "on" else "on"]
    if vartype == "enum":
        return [value for value in enumvals or () if value != setting]
    return [value for value in (low, high) if value != setting and vartype in ("integer", "real")]


@pytest.fixture(scope="module")
def twins(shared_db: Database) -> Database:
    """`plain` and `sealed` with one row of the values; `copy` to write into under a setting."""
    shared_db.sql(TYPES)
    shared_db.sql("CREATE SCHEMA far; CREATE TYPE far.text AS (a int); CREATE DOMAIN far.date AS int4")
    columns = ", ".join(f"c{number} {type}" for number, type in enumerate(VALUES))
    for table in ("plain", "sealed"):
        shared_db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, {columns})")
    shared_db.sql(f"INSERT INTO plain VALUES (1, {', '.join(VALUES.values())})")
    shared_db.sql("INSERT INTO sealed TABLE plain")
    names = json.dumps([f"c{number}" for number in range(len(VALUES))])
    shared_db.sql("CALL envelope.protect('sealed', %s::jsonb)", names)
    return shared_db


def differing(connection: psycopg.Connection[Any], sealed_id: int) -> list[str]:
    """The types whose value in `sealed` is not, as bytes, that in `plain`."""
    compared = ", ".join(
        f"ROW(s.c{number})::record OPERATOR(pg_catalog.*=) ROW(p.c{number})::record" for number in range(len(VALUES))
    )
    query = f"SELECT {compared} FROM public.plain p, public.sealed s WHERE s.id = {sealed_id}"
    found = connection.execute(query).fetchone()
    assert found is not None
    return [type for type, same in zip(VALUES, found, strict=True) if not same]


# A setting, a value for it, and its value of now.
Change = tuple[str, str, str]
# So many settings are changed together. If a value differs then, each of them is tried alone.
TOGETHER = 8


def changes(connection: psycopg.Connection[Any]) -> list[list[Change]]:
    """The changes of each setting that a session can change: one for each other value that it takes."""
    found = connection.execute(SETTINGS, [list(NOT_ABOUT_VALUES)]).fetchall()
    return [[(name, value, known[-1]) for value in TEXTS.get(name, unusual(*known))] for name, *known in found]


def groups(settings: list[list[Change]]) -> list[tuple[Change, ...]]:
    """All changes, in groups that name no setting twice."""
    rounds = ([change for change in changes if change] for changes in itertools.zip_longest(*settings))
    return [group for changes in rounds for group in batched(changes, TOGETHER)]


def batched(changes: list[Change], size: int) -> list[tuple[Change, ...]]:
    return [tuple(changes[start : start + size]) for start in range(0, len(changes), size)]


def test_no_setting_changes_what_is_written_or_read(twins: Database) -> None:
    """Each setting that a session can change, at each other value that it takes: for the writer and for the reader."""
    names = ", ".join(f"c{number}" for number in range(len(VALUES)))
    with twins.stack.connect(twins.name) as fresh, twins.stack.connect(twins.name) as other:
        # The plan of the session whose settings stay as they are can stay, too.
        fresh.prepare_threshold, other.prepare_threshold = 0, None
        other.execute("LOAD 'plpgsql'; LOAD 'hstore'")

        def differ(group: tuple[Change, ...]) -> list[str]:
            for name, value, _ in group:
                other.execute("SELECT set_config(%s, %s, false)", (name, value))
            other.execute("DELETE FROM public.sealed WHERE id = 2")
            other.execute(f"INSERT INTO public.sealed (id, {names}) SELECT 2, {names} FROM public.plain")
            found = [*differing(fresh, 2), *differing(other, 1)]
            for name, _, before in group:
                other.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, before))
            return found

        tried = groups(changes(other))
        suspected = [change for group in tried if differ(group) for change in group]
        faults = {change: found for change in suspected if (found := differ((change,)))}
    assert sum(map(len, tried)) > 200
    assert suspected == [], faults


SETTINGS_AT_START = """
SELECT name, vartype, enumvals, min_val, max_val, setting FROM pg_settings
WHERE context IN ('backend', 'superuser-backend') AND name <> 'post_auth_delay' ORDER BY name"""


def test_no_setting_of_a_session_at_its_start_does(twins: Database) -> None:
    """Those that a connection brings along, and that nothing changes later."""
    names = ", ".join(f"c{number}" for number in range(len(VALUES)))
    faults: dict[str, list[str]] = {}
    with twins.stack.connect(twins.name) as fresh:
        found = fresh.execute(SETTINGS_AT_START).fetchall()
        given = [(name, value) for name, *known in found for value in unusual(*known)]
        for name, value in given:
            with twins.stack.connect(twins.name, options=f"-c {name}={value}") as other:
                other.execute("DELETE FROM public.sealed WHERE id = 2")
                other.execute(f"INSERT INTO public.sealed (id, {names}) SELECT 2, {names} FROM public.plain")
                if differ := [*differing(fresh, 2), *differing(other, 1)]:
                    faults[f"{name} = {value}"] = differ
    assert given
    assert faults == {}


DECLARED = [
    '<?xml version="1.0"?><a/>',
    '<?xml version="1.0" encoding="UTF-8"?><a>é</a>',
    '<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>\n<a>é</a>\n',
    '<?xml version="1.1" standalone="no"?><!-- c --><a/>',
    '<!DOCTYPE a [<!ENTITY e "x">]><a b="&e;">&e;</a>',
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE a SYSTEM "a.dtd">\n<a/>',
    '<?xml version="1.0"?>text <b/> and <c/>',
    "  <a> <b/> </a>  ",
    "just text",
    "",
]


@pytest.mark.parametrize("type", ["xml", "page"])
def test_xml_keeps_each_byte(db: Database, type: str) -> None:
    db.sql("CREATE DOMAIN page AS xml CHECK (VALUE IS NOT NULL)")
    for table in ("plain", "sealed"):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, d {type})")
    db.sql("""CALL envelope.protect('sealed', '["d"]')""")
    for number, document in enumerate(DECLARED):
        db.sql(f"INSERT INTO plain VALUES (%s, XMLPARSE(CONTENT %s)::{type})", number, document)
    db.sql("INSERT INTO sealed TABLE plain")
    db.sql("SET xmloption = document")
    query = "SELECT id, d::text, XMLSERIALIZE(CONTENT d AS text), xmlconcat(d, '<z/>')::text FROM {} ORDER BY id"
    assert db.sql(query.format("sealed")) == db.sql(query.format("plain"))
    assert [text for _, text, _, _ in db.sql(query.format("sealed"))] == DECLARED
    query = "SELECT XMLSERIALIZE(DOCUMENT d AS text) FROM {} WHERE d IS DOCUMENT ORDER BY id"
    assert db.sql(query.format("sealed")) == db.sql(query.format("plain"))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE CAST (mine AS envelope.plaintext) WITH INOUT",
        "CREATE CAST (envelope.plaintext AS mine) WITH INOUT AS IMPLICIT",
        "CREATE FUNCTION f(envelope.plaintext) RETURNS mine LANGUAGE sql AS 'SELECT NULL'",
        "CREATE FUNCTION f(mine) RETURNS envelope.plaintext LANGUAGE sql AS 'SELECT NULL'",
        "CREATE DOMAIN d AS envelope.plaintext",
        "CREATE TABLE t (a envelope.plaintext[])",
    ],
)
def test_nobody_can_come_between_a_value_and_its_text(db: Database, statement: str) -> None:
    """Also under default privileges that give every new type away."""
    with db.connect("owner") as owner:
        owner.execute("CREATE TYPE mine AS ENUM ('a')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="plaintext"):
            owner.execute(statement)


# A type, two of its values as SQL, and a third one that casts to it give instead.
CAST_TYPES = {
    "mood": ("'sad'::mood", "'04.03.2001'::mood", "'NULL'::mood"),
    "addr": ("ROW('Main St 1', 'Bern')::addr", "ROW('', NULL)::addr", "ROW('x', 'x')::addr"),
    "span": ("span('sad', 'NULL')", "'empty'::span", "'(,)'::span"),
    "spans": ("'{[sad,NULL)}'::spans", "'{}'::spans", "'{(,)}'::spans"),
}
# What holds the type of a cast inside: `{}` is a value of it.
HOLDERS = {
    "{type}": "{value}",
    "{type}[]": "ARRAY[{value}, NULL]",
    "{type}_domain": "{value}",
    "{type}_domain[]": "ARRAY[{value}::{type}_domain]",
    "{type}_holder": "ROW(1, {value})::{type}_holder",
}
TEXT_TYPES = ["text", "varchar", "name", "bpchar", "json"]
CONTEXTS = ["", "AS ASSIGNMENT", "AS IMPLICIT"]


def make_casts(database: Database, type: str, context: str) -> None:
    """Casts of a type from and to every text type, each of which gives something else than the value."""
    other = CAST_TYPES[type][2]
    for text in TEXT_TYPES:
        value = """'"cast"'::json""" if text == "json" else f"'cast'::{text}"
        database.sql(
            f"CREATE FUNCTION to_text(v {type}) RETURNS {text} LANGUAGE plpgsql AS $$ BEGIN RETURN {value}; END $$;"
            f"CREATE FUNCTION from_text(v {text}) RETURNS {type} LANGUAGE plpgsql AS $$ BEGIN RETURN {other}; END $$;"
            f"CREATE CAST ({type} AS {text}) WITH FUNCTION to_text({type}) {context};"
            f"CREATE CAST ({text} AS {type}) WITH FUNCTION from_text({text}) {context};"
            f"ALTER FUNCTION to_text({type}) RENAME TO to_{text}_{type};"
        )


CAST_SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'NULL', '04.03.2001');
CREATE TYPE addr AS (street text, city text);
CREATE TYPE span AS RANGE (subtype = mood, multirange_type_name = spans);
CREATE DOMAIN mood_domain AS mood; CREATE TYPE mood_holder AS (n int, v mood);
CREATE DOMAIN addr_domain AS addr; CREATE TYPE addr_holder AS (n int, v addr);
CREATE DOMAIN span_domain AS span; CREATE TYPE span_holder AS (n int, v span);
CREATE DOMAIN spans_domain AS spans; CREATE TYPE spans_holder AS (n int, v spans);
"""


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("type", CAST_TYPES)
@pytest.mark.parametrize("before", [True, False])
def test_no_cast_of_a_user_changes_a_value(db: Database, type: str, context: str, before: bool) -> None:
    """In columns, in the primary key and as the scope, when the casts are made before protect() and after it.

    Not in the key where the cast is implicit: then PostgreSQL itself takes the types' own equality for that of text.
    """
    key = "id" if context == "AS IMPLICIT" else "id, k"
    db.sql(CAST_SCHEMA)
    if before:
        make_casts(db, type, context)
    columns = {f"c{n}": (h.format(type=type), v) for n, (h, v) in enumerate(HOLDERS.items())}
    defined = ", ".join(f"{name} {holder}" for name, (holder, _) in columns.items())
    for table in ("plain", "sealed"):
        db.sql(f"CREATE TABLE {table} (id int, k {type}, s {type} NOT NULL, {defined}, PRIMARY KEY ({key}))")
    rows = [
        ", ".join([value] * 2 + [v.format(value=value, type=type) for _, v in columns.values()])
        for value in CAST_TYPES[type][:2]
    ]
    for table in ("plain", "sealed"):
        db.sql(f"INSERT INTO {table} VALUES (1, {rows[0]})")
    protected = json.dumps(list(columns))
    db.sql("CALL envelope.protect('sealed', %s::jsonb, scope => 'subject', scope_column => 's')", protected)
    if not before:
        make_casts(db, type, context)
        db.sql("CALL envelope.refresh('sealed')")
    for table in ("plain", "sealed"):
        db.sql(f"INSERT INTO {table} VALUES (2, {rows[1]})")
        db.sql(f"UPDATE {table} SET id = id + 10, s = {CAST_TYPES[type][1]}")
    query = "SELECT array_agg(t ORDER BY id)::text FROM (SELECT id, k, s, c0, c1, c2, c3, c4 FROM {}) t"
    assert db.one(query.format("sealed")) == db.one(query.format("plain"))
