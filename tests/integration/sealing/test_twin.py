"""Both directions on the same table: the view writes and the client reads; the client writes and the view reads."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from pg_envelope import errors
from tests.integration.sealing.fix_door import DoorOfTests

ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))
TIME = dt.datetime(2026, 1, 2, 6, 34, 0, 120000)
VALUES: dict[str, Any] = {
    "text": "Zoë ¿?\n",
    "varchar(9)": "nine",
    "char(5)": "ab   ",
    "smallint": -7,
    "integer": 2**31 - 1,
    "bigint": -(2**63),
    "boolean": True,
    "numeric": Decimal("-12345678901234567890.120"),
    "numeric(10,2)": Decimal("1.50"),
    "real": 1.5e-7,
    "double precision": 0.1,
    "uuid": UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    "bytea": b"\x00\xff'\\",
    "date": dt.date(2026, 2, 28),
    "time": dt.time(23, 59, 1, 500),
    "timetz": dt.time(1, 2, 3, tzinfo=ZONE),
    "timestamp": TIME,
    "timestamptz": TIME.replace(tzinfo=ZONE),
    "jsonb": {"bb": [1, 2.5, None, True, 'é\t"'], "a": {}},
    "json": {"z": 1},
    "int[]": "{1,NULL,3}",
    "interval": "P1Y2M3DT4H",
    "int4range": "[1,5)",
    "inet": "10.0.0.1",
}


def bind(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict) else value


def test_a_value_of_each_type(door: DoorOfTests) -> None:
    """In one table, because each start of a broker takes its time. `plain` columns say what PostgreSQL makes of it."""
    db = door.db
    names = [f"v{number}" for number in range(len(VALUES))]
    columns = ", ".join(f"{name} {kind}, plain_{name} {kind}" for name, kind in zip(names, VALUES, strict=True))
    db.sql(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    db.sql("CALL envelope.protect('t', to_jsonb(%s::text[]))", names)
    client = door.grant("t", *names)
    for name, (kind, value) in zip(names, VALUES.items(), strict=True):
        key = client.field("t", name)
        db.sql(f"INSERT INTO t (id, {name}) VALUES (1, %s::{kind})", bind(value))
        assert key.open(db.one(f"SELECT {name} FROM t_encrypted WHERE id = 1"), 1) == value, kind
        db.sql("DELETE FROM t")
        insert = f"INSERT INTO t_encrypted (id, {name}, plain_{name}) VALUES (2, %s, %s::{kind})"
        db.sql(insert, key.seal(value, 2), bind(value))
        # The same bytes, not only an equal value: searches and row keys go by the text.
        texts = f"SELECT envelope_internal.canonical({name}), envelope_internal.canonical(plain_{name}) FROM t"
        ((ours, theirs),) = db.sql(texts)
        assert ours == theirs, kind
        db.sql("DELETE FROM t")


def test_each_suite_with_and_without_padding(door: DoorOfTests) -> None:
    db = door.db
    kinds = {f"v{suite}{'p' * pad}": (suite, pad) for suite in (1, 2, 3, 4, 5) for pad in (False, True)}
    db.sql(f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'{name} text' for name in kinds)})")
    bound = {name: "column" if suite == 4 else "row" for name, (suite, _) in kinds.items()}
    options = {name: {"suite": suite, "pad": pad, "bind": bound[name]} for name, (suite, pad) in kinds.items()}
    db.sql("CALL envelope.protect('t', %s)", bind(options))
    client = door.grant("t", *kinds)
    for name, (suite, pad) in kinds.items():
        key = client.field("t", name)
        one, two = (() if suite == 4 else (row,) for row in (1, 2))
        sealed = key.seal("value", *one)
        assert sealed is not None
        assert (sealed[1] & 0x7F, bool(sealed[1] & 0x80)) == (suite, pad)
        assert (key.seal("value", *one) == sealed) is (suite == 4)
        db.sql(f"INSERT INTO t_encrypted (id, {name}) VALUES (1, %s)", sealed)
        db.sql(f"INSERT INTO t (id, {name}) VALUES (2, 'other')")
        assert db.sql(f"SELECT {name} FROM t ORDER BY id") == [("value",), ("other",)]
        assert key.open(db.one(f"SELECT {name} FROM t_encrypted WHERE id = 2"), *two) == "other"
        db.sql("DELETE FROM t")


def test_composite_row_keys(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE t (a numeric(6,1), b char(3), c timestamptz, v text, PRIMARY KEY (c, a, b))")
    db.sql("CALL envelope.protect('t', '[\"v\"]')")
    key = door.grant("t", "v").field("t", "v")
    at = TIME.replace(tzinfo=ZONE)
    row = {"a": Decimal(2), "b": "x", "c": at}
    db.sql("INSERT INTO t_encrypted VALUES (%s, %s, %s, %s)", 2, "x", at, key.seal("one", row))
    db.sql("INSERT INTO t VALUES (3, 'yz', %s, 'two')", at)
    assert sorted(db.sql("SELECT v FROM t")) == [("one",), ("two",)]
    sealed = db.one("SELECT v FROM t_encrypted WHERE a = 3")
    assert key.open(sealed, (at, Decimal(3), "yz")) == "two"
    with pytest.raises(errors.InvalidEnvelope):
        key.open(sealed, row)
    with pytest.raises(errors.BadInput, match="row key"):
        key.open(sealed, (at, Decimal(3)))


@pytest.mark.parametrize("bind_to", ["row", "column"])
def test_tenants(door: DoorOfTests, bind_to: str) -> None:
    db = door.db
    db.sql("CREATE TABLE t (id int PRIMARY KEY, tenant text NOT NULL, v text)")
    columns = {"v": {"bind": bind_to}}
    db.sql("CALL envelope.protect('t', %s, scope => 'tenant', scope_column => 'tenant')", bind(columns))
    key = door.grant("t", "v").field("t", "v")

    def row(number: int, tenant: str) -> Any:
        return (tenant, number) if bind_to == "row" else tenant

    db.sql("INSERT INTO t VALUES (1, 'acme', 'by the view')")
    # The second tenant is new, and the client makes its key.
    for number, tenant in ((2, "acme"), (3, "globex")):
        sealed = key.seal("by the client", row(number, tenant))
        db.sql("INSERT INTO t_encrypted VALUES (%s, %s, %s)", number, tenant, sealed)
    db.sql("INSERT INTO t VALUES (4, 'globex', 'by the view')")
    assert [one for (one,) in db.sql("SELECT v FROM t ORDER BY id")] == [
        "by the view", "by the client", "by the client", "by the view",
    ]  # fmt: skip
    for number, tenant, sealed in db.sql("SELECT id, tenant, v FROM t_encrypted"):
        assert key.open(sealed, row(number, tenant)).startswith("by the")
        with pytest.raises(errors.InvalidEnvelope):
            key.open(sealed, row(number, "other"))


def test_bound_by_column_only(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    db.sql("""CALL envelope.protect('t', '{"v": {"bind": "column"}}')""")
    key = door.grant("t", "v").field("t", "v")
    db.sql("INSERT INTO t_encrypted VALUES (1, %s)", key.seal("v"))
    assert db.one("SELECT v FROM t") == "v"
    with pytest.raises(errors.BadInput, match="row key"):
        key.seal("v", 1)


def test_named_keys(door: DoorOfTests) -> None:
    db = door.db
    db.sql("SELECT envelope.create_key('crm')")
    door.allow(db.one("SELECT envelope.grant_client_key('crm', 'alice')"))
    key = door.client().named("crm")
    assert db.one("SELECT envelope.decrypt(%s, 'note 7')", key.seal("é", "note 7")) == "é"
    assert db.one("SELECT envelope.decrypt_bytea(%s, 'b')", key.seal(b"\x00", "b")) == b"\x00"
    sealed = db.one("SELECT envelope.encrypt('by the server'::text, 'crm', 'c')")
    assert key.open(sealed, "c") == "by the server"
    assert key.open_bytes(sealed, "c") == b"by the server"
    with pytest.raises(errors.InvalidEnvelope):
        key.open(sealed, "d")
    assert (key.seal(None), key.open(None)) == (None, None)


def test_a_domain_is_its_own_type_underneath(door: DoorOfTests) -> None:
    db = door.db
    db.sql(
        "CREATE DOMAIN price AS numeric(8,2); CREATE DOMAIN net AS price; CREATE TABLE t (id int PRIMARY KEY, v net)"
    )
    db.sql("CALL envelope.protect('t', '[\"v\"]')")
    key = door.grant("t", "v").field("t", "v")
    db.sql("INSERT INTO t_encrypted VALUES (1, %s)", key.seal(Decimal("7.005"), 1))
    assert db.one("SELECT v::text FROM t") == "7.01"


def test_a_row_key_whose_text_is_not_one_is_refused(door: DoorOfTests) -> None:
    db = door.db
    for kind in ("float8", "float4", "jsonb"):
        db.sql(f"CREATE TABLE {kind}_keys (id {kind} PRIMARY KEY, v text)")
        db.sql(f"CALL envelope.protect('{kind}_keys', '[\"v\"]')")
        client = door.grant(f"{kind}_keys", "v")
        with pytest.raises(errors.Unsupported):
            client.field(f"{kind}_keys", "v")
