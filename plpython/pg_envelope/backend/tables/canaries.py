"""Plants canaries: rows whose keys raise an alarm at the broker when somebody opens them. docs/canaries.md."""

from __future__ import annotations

import json
from collections.abc import Callable

from pg_envelope import envelope, errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.walker import quiet
from pg_envelope.backend.link import Link
from pg_envelope.backend.scope_keys import LOCK_DEKS, ScopeKeys
from pg_envelope.backend.server import settings_kept
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import catalog, inspect, whole
from pg_envelope.backend.tables.canonical import canonical
from pg_envelope.backend.tables.generate import Layout, row_key
from pg_envelope.backend.tables.generate.layout import Protected
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.envelope import FieldKey
from pg_envelope.typed import NamedTuple

# The version of a canary's DEK is below 0. So no rotation counts it, and no job brings its row to a newer key.
ADD_DEK = """
INSERT INTO envelope_private.dek
    (dek_id, key_uuid, version, scope, state, kek, store, wrapped, fingerprint, kek_version)
SELECT $1, $2, least(min(version), 0) - 1, $3, 'decrypt-only', $4, $5, $6, $7, $8
FROM envelope_private.dek WHERE key_uuid = $2 AND scope IS NOT DISTINCT FROM $3 RETURNING version"""
ADD_FIELD_KEY = """
INSERT INTO envelope_private.field_key (key_id, field_uuid, dek_id, version, salt, state)
VALUES ($1, $2, $3, $4, $5, 'decrypt-only') RETURNING key_id"""
ADD = """
INSERT INTO envelope_private.canary (dek_id, key_uuid, row_key, note) VALUES ($1, $2, $3::jsonb, $4) RETURNING dek_id"""
KEY_IDS = "SELECT envelope_private.next_key_id() AS key_id FROM generate_series(1, $1)"
CAPABILITIES = """
SELECT c.field_uuid, c.capability, p.label FROM envelope_private.protected_column p
JOIN envelope_private.capability c USING (field_uuid) WHERE p.key_uuid = $1"""
OF_CANARIES = """
SELECT fk.key_id FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
WHERE fk.key_id = ANY ($1) AND d.version < 0"""
PLANTED = """
SELECT c.dek_id, array_agg(fk.key_id) AS key_ids FROM envelope_private.canary c
JOIN envelope_private.field_key fk USING (dek_id)
WHERE c.key_uuid = $1 AND c.row_key = $2::jsonb GROUP BY c.dek_id"""
FORGET = "DELETE FROM envelope_private.canary WHERE dek_id = ANY ($1) RETURNING dek_id"
SHOWN_HINT = """Write the row by its primary key: {"id": 42}. envelope.canaries shows those of canaries."""

Open = Callable[[bytes | None, bytes | None, str | None], bytes | None]


class StillPlanted(errors.NotConfigured):
    sqlstate = "55006"
    text = "the canary is still in its row"


class PlainValue(NamedTuple):
    """A value of the row, before it has the canary's key. `bound` is its row key."""

    protected: Protected
    label: str
    content: bytes
    bound: str


class CanaryTable(NamedTuple):
    """The protected table of a canary."""

    key: Row
    layout: Layout
    owner: AsOwner


class Canaries(ScopeKeys):
    """Both methods run in the caller's transaction. `opened` opens a value that is shown to nobody."""

    def __init__(self, host: Host, link: Link, opened: Open) -> None:
        super().__init__(host, link)
        self._opened = opened

    def plant(self, oid: int, row: str | None, note: str | None) -> None:
        """Gives the values of a row keys of their own. Raises NotProtected, BadInput, or what the broker says."""
        catalog.refuse_rollout(self._host, oid, "plant_canary")
        table = self._table(oid)
        wanted = _row_key_of(table.layout, row)
        # The lock comes first: a session that rotates the KEK waits for it, and then finds the DEK.
        self._host.run(LOCK_DEKS)
        label = self._lock(str(table.key["key_uuid"]))
        found = self._row(table, wanted)
        self._refuse_planted(table, found)
        values = self._values(table, found)
        owner, scope = str(table.key["scope_key"]), found["scope"]
        dek_id, version, made = self._dek(owner, scope)
        key_ids, keys, salt = self._keys_of(table, values, made)
        for field_uuid, key_id in _stored(table, key_ids).items():
            one = [key_id, field_uuid or None, dek_id, version, salt]
            self._host.rows(ADD_FIELD_KEY, ["int8", "uuid", "int8", "int4", "bytea"], one)
        self._write(table, found, {value: _sealed(value, key_ids, keys) for value in values})
        kept = [dek_id, table.key["key_uuid"], found["row_key"], note]
        self._host.rows(ADD, ["int8", "uuid", "text", "text"], kept)
        self._record("plant_canary", label, [{"dek_id": dek_id, "from": None, "to": "decrypt-only"}])

    def remove(self, oid: int, row: str | None) -> None:
        """Takes a canary off the list whose row is gone, or has other values. Raises BadInput, StillPlanted."""
        table = self._table(oid)
        wanted = json.dumps(_row_key_of(table.layout, row))
        label = self._lock(str(table.key["key_uuid"]))
        planted = self._host.rows(PLANTED, ["uuid", "text"], [table.key["key_uuid"], wanted])
        if not planted:
            raise errors.BadInput("there is no canary in this row", hint=SHOWN_HINT)
        key_ids = {key_id for one in planted for key_id in one["key_ids"]}
        if self._is_used(table, key_ids):
            raise StillPlanted(hint="DELETE the row, or write its protected values anew, and call it again.")
        self._host.rows(FORGET, ["int8[]"], [[one["dek_id"] for one in planted]])
        self._record("remove_canary", label, [])

    def _table(self, oid: int) -> CanaryTable:
        key = catalog.key_of(self._host, oid)
        table = inspect.inspect(self._host, key["base"])
        layout = catalog.layout_of(self._host, key, table)
        whole.refuse_missing(self._host, key, layout)
        if not layout.row_key:
            raise errors.Unsupported("a canary needs a table with a primary key", detail="Nothing was changed.")
        return CanaryTable(key, layout, AsOwner(self._host, table.owner_oid))

    def _row(self, table: CanaryTable, wanted: dict[str, object]) -> Row:
        found = table.owner.rows(_lookup(table.layout), ["text"], [json.dumps(wanted)])
        if len(found) != 1:
            raise errors.BadInput("the table has no such row, or it is hidden", hint=SHOWN_HINT)
        return found[0]

    def _refuse_planted(self, table: CanaryTable, found: Row) -> None:
        stored = [found[f"value_{number}"] for number, _ in enumerate(table.layout.protected)]
        key_ids = [envelope.key_id(value) for value in stored if value is not None]
        if self._host.rows(OF_CANARIES, ["int8[]"], [key_ids]):
            raise errors.BadInput("the row is a canary already", hint="envelope.canaries lists them.")

    def _values(self, table: CanaryTable, found: Row) -> list[PlainValue]:
        """Returns the values that the row has. One that was erased may read as none. Raises BadInput without any."""
        rights = {row["field_uuid"]: row for row in self._host.rows(CAPABILITIES, ["uuid"], [table.key["key_uuid"]])}
        values = []
        for number, protected in enumerate(table.layout.protected.values()):
            right, bound = rights[protected.field_uuid], found[f"bound_{number}"]
            content = self._opened(found[f"value_{number}"], right["capability"], bound)
            if content is not None:
                values.append(PlainValue(protected, right["label"], content, bound))
        if not values:
            raise errors.BadInput("the row has no protected value to open")
        return values

    def _dek(self, owner: str, scope: str | None) -> tuple[int, int, Row]:
        """Makes a DEK that seals nothing but the canary. Returns its id, its version, and what the broker needs."""
        kek, store = self.kek_of(owner, scope or "")
        dek_id, made = self._generate({"kek": kek, "store": store})
        fingerprint = wire.from_base64(made["fingerprint"])
        row = self._host.row(
            ADD_DEK,
            ["int8", "uuid", "text", "text", "text", "text", "bytea", "int4"],
            [dek_id, owner, scope, kek, store, made["wrapped"], fingerprint, made["kek_version"]],
        )
        told = {"dek_id": dek_id, "kek": kek, "store": store}
        told |= {name: made[name] for name in ("wrapped", "fingerprint")}
        return dek_id, int(row["version"]) if row else -1, told

    def _keys_of(
        self, table: CanaryTable, values: list[PlainValue], dek: Row
    ) -> tuple[dict[str, int], dict[str, bytes], bytes]:
        """Returns key ids and keys by field, and their salt. A tenant's or subject's columns share a key id."""
        count = len(values) if table.key["scope"] == "table" else 1
        drawn = [row["key_id"] for row in self._host.rows(KEY_IDS, ["int4"], [count])]
        fields = [value.protected.field_uuid for value in values]
        key_ids = dict(zip(fields, drawn if count > 1 else drawn * len(fields), strict=True))
        asked = [
            {"key_id": key_ids[field], "field_uuid": field, "label": value.label}
            for field, value in zip(fields, values, strict=True)
        ]
        answer = self._link.ask("plant", database_uuid=self._database_uuid(), key=dek, fields=asked)
        made = [wire.from_base64(one["key"]) for one in answer["keys"]]
        return key_ids, dict(zip(fields, made, strict=True)), wire.from_base64(answer["salt"])

    def _write(self, table: CanaryTable, found: Row, sealed: dict[PlainValue, bytes]) -> None:
        """Writes the envelopes, without the triggers of users: no value changes."""
        columns = [ident(value.protected.column.name) for value in sealed]
        values = commas(f"{name} = ${number}" for number, name in enumerate(columns, 3))
        statement = (
            f"UPDATE {table.layout.base} t SET {values} WHERE t.ctid = $1::tid AND t.tableoid = $2 RETURNING 1 AS found"
        )
        with settings_kept():
            quiet(self._host)
            types = ["text", "oid", *["bytea"] * len(sealed)]
            if not table.owner.count(statement, types, [found["place"], found["heap"], *sealed.values()]):
                raise errors.Conflict

    def _is_used(self, table: CanaryTable, key_ids: set[int]) -> bool:
        listed = commas(literal(f"\\x{key_id:08x}") for key_id in sorted(key_ids))
        used = " OR ".join(f"substr(t.{ident(name)}, 3, 4) IN ({listed})" for name in table.layout.protected)
        return bool(table.owner.count(f"SELECT count(*) AS found FROM {table.layout.base} t WHERE {used}"))


def _row_key_of(layout: Layout, row: str | None) -> dict[str, object]:
    """Returns the primary key by column, numbers as texts. Raises BadInput."""
    found = json.loads(row or "null", parse_int=str, parse_float=str)
    if not isinstance(found, dict) or set(found) != set(layout.row_key):
        raise errors.BadInput(
            "a row is named by its primary key", detail=f"columns: {', '.join(layout.row_key)}", hint=SHOWN_HINT
        )
    return found


def _lookup(layout: Layout) -> str:
    """Returns a query for one row: its place, its key and scope as texts, and its envelopes with what binds them."""
    given = f"pg_catalog.jsonb_populate_record(NULL::{layout.base}, $1::pg_catalog.jsonb) g"
    where = " AND ".join(f"t.{ident(name)} {equals} g.{ident(name)}" for name, equals in layout.row_key.items())
    pairs = commas(f"{literal(name)}, {canonical(layout.column(name), 't')}" for name in layout.row_key)
    scope = canonical(layout.column(layout.scope_column), "t") if layout.scope_column else "NULL::pg_catalog.text"
    values = [
        f"t.{ident(name)}::pg_catalog.bytea AS value_{number}, {row_key(layout, protected, 't')} AS bound_{number}"
        for number, (name, protected) in enumerate(layout.protected.items())
    ]
    return (
        f"SELECT t.tableoid AS heap, t.ctid::pg_catalog.text AS place,"
        f" pg_catalog.jsonb_build_object({pairs})::pg_catalog.text AS row_key,"
        f" {scope} AS scope, {commas(values)} FROM {layout.base} t, {given} WHERE {where} FOR UPDATE OF t"
    )


def _stored(table: CanaryTable, key_ids: dict[str, int]) -> dict[str, int]:
    """Returns the rows of field_key: one for each column, or one without a column for a tenant or subject."""
    return key_ids if table.key["scope"] == "table" else {"": next(iter(key_ids.values()))}


def _sealed(value: PlainValue, key_ids: dict[str, int], keys: dict[str, bytes]) -> bytes:
    field, options = value.protected.field_uuid, value.protected.options
    head = envelope.header(options.suite, padded=options.pad, key_id=key_ids[field])
    key = FieldKey(head, bytes.fromhex(field.replace("-", "")), keys[field])
    return key.seal(value.content, value.bound.encode())
