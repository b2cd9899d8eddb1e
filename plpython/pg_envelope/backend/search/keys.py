"""Search keys: a DEK of their own, apart from every key that encrypts, and a type whose operators compare by it."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.search import functions, operators, types
from pg_envelope.backend.search.column import SearchColumn, plain_type
from pg_envelope.backend.search.options import SearchWanted
from pg_envelope.backend.server import settings_kept
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.normalizers import kind_of
from pg_envelope.records import dataclass

KNOWN = """
SELECT k.search_uuid, k.type_name, k.schema, k.normalizer, k.plain_type, b.relowner AS owner, EXISTS (
        SELECT FROM envelope_private.search s JOIN envelope_private.search r USING (field_uuid)
        WHERE s.search_uuid = k.search_uuid AND r.replaces = s.attname) AS changes
FROM envelope_private.key n JOIN envelope_private.field f USING (key_uuid)
JOIN envelope_private.search_key k ON k.search_uuid = f.field_uuid
LEFT JOIN pg_catalog.pg_class b ON b.relowner = envelope_private.search_owner(k.search_uuid)
WHERE n.name = $1 LIMIT 1"""
TAKEN = "SELECT key_uuid FROM envelope_private.key WHERE name = $1"
KEY_ID = "SELECT key_id FROM envelope_private.field_key WHERE field_uuid = $1 AND state = 'active'"
RECORD = "INSERT INTO envelope_private.search_key VALUES ($1, $2, $3, $4, $5)"
USE = """
INSERT INTO envelope_private.search (field_uuid, attname, attnum, search_uuid, is_filled, is_unique, replaces)
VALUES ($1, $2, $3, $4, $5, $6, $7)"""
# grant_client_search() takes the same lock.
LOCK = "SELECT field_uuid FROM envelope_private.field WHERE field_uuid = $1 FOR NO KEY UPDATE"
HIDDEN = """
SELECT string_agg(g.role::text, ', ') AS roles FROM envelope_private.client_grant g
WHERE g.field_uuid = $1 AND EXISTS (
    SELECT FROM envelope_private.field f WHERE f.field_uuid = $2 AND (f.audit <> 'none'
        OR EXISTS (SELECT FROM envelope_private.mask m WHERE m.field_uuid = f.field_uuid)))"""
HIDDEN_HINT = (
    "Give the column a search key of its own. Or end the grants, envelope.revoke_client_search(...), and make another"
    " key: CALL envelope.rotate_search(...)."
)
USE_TYPES = ["uuid", "name", "int2", "uuid", "bool", "bool", "name"]
FORGET = "DELETE FROM envelope_private.search WHERE field_uuid = $1 AND attname = $2"
ORIGIN = "SELECT kek, store FROM envelope_private.key WHERE key_uuid = $1"
KEY = """
SELECT k.key_uuid, k.name, k.kek, k.store FROM envelope_private.key k JOIN envelope_private.field f USING (key_uuid)
WHERE f.field_uuid = $1"""
TAKE_TYPE = "UPDATE envelope_private.search_key SET type_name = $2 WHERE search_uuid = $1"
RENAME = "UPDATE envelope_private.key SET name = $2 WHERE key_uuid = $1"
RETIRE = "SELECT envelope_private.retire_key($1)"
UNUSED = """
SELECT search_uuid, type_name, schema, normalizer, plain_type FROM envelope_private.search_key k
WHERE search_uuid = ANY ($1)
    AND NOT EXISTS (SELECT FROM envelope_private.search s WHERE s.search_uuid = k.search_uuid)"""
EVERY = "SELECT search_uuid, type_name, schema, normalizer, plain_type FROM envelope_private.search_key"
HINT = "A search key joins columns of one type and normaliser, in tables of one schema and owner."


@dataclass(frozen=True)
class KeyOrigin:
    """The KEK and store of the table, from which its search keys come."""

    kek: str
    store: str | None


def origin_of(host: Host, key_uuid: str) -> KeyOrigin:
    """Returns the KEK and store of a table's key, for its search keys."""
    (row,) = host.rows(ORIGIN, ["uuid"], [key_uuid])
    return KeyOrigin(row["kek"], row["store"])


@dataclass(frozen=True)
class SearchKey:
    """A key as the catalog has it."""

    key_uuid: str
    name: str
    origin: KeyOrigin


def key_of(host: Host, search_uuid: str) -> SearchKey:
    (row,) = host.rows(KEY, ["uuid"], [search_uuid])
    return SearchKey(str(row["key_uuid"]), row["name"], KeyOrigin(row["kek"], row["store"]))


def take_over(host: Host, old_uuid: str, search: SearchColumn) -> None:
    """Gives a new key the type and the name of the key that it replaces, which nobody uses any more."""
    old, new = key_of(host, old_uuid), key_of(host, search.search_uuid)
    _forget_key(host, old_uuid)
    host.rows(TAKE_TYPE, ["uuid", "name"], [search.search_uuid, search.type_name])
    for key_uuid, name in ((new.key_uuid, None), (old.key_uuid, new.name), (new.key_uuid, old.name)):
        host.rows(RENAME, ["uuid", "text"], [key_uuid, name])
    host.rows(RETIRE, ["uuid"], [old.key_uuid])
    _run(host, operators.needles(search, active_key_id(host, search.search_uuid)))
    functions.drop_unused(host)


def make(host: Host, keys: Keys, table: Table, column: Column, wanted: SearchWanted, origin: KeyOrigin) -> SearchColumn:
    """The search column of a protected column, under a key that is new or shared by its name. Raises BadInput."""
    kind = plain_type(column)
    assert kind is not None
    found = host.row(KNOWN, ["text"], [wanted.key]) if wanted.key else None
    if found is None:
        return _new(host, keys, table, column, wanted, origin, kind)
    if found["changes"]:
        raise errors.NotConfigured(
            f"the search key {wanted.key} is being replaced", hint="Wait for rotate_search() to end."
        )
    # A key that another column of the same call has just got has no owner yet.
    if found["owner"] not in (None, table.owner_oid) or (found["schema"], found["normalizer"], found["plain_type"]) != (
        table.schema,
        wanted.normalize,
        kind,
    ):
        raise errors.BadInput(f"the search key {wanted.key} is for other columns than {column.name}", hint=HINT)
    return _column(wanted.name, column.name, found)


def _new(
    host: Host, keys: Keys, table: Table, column: Column, wanted: SearchWanted, origin: KeyOrigin, kind: str
) -> SearchColumn:
    name = wanted.key or free_name(host, f"search {table.schema}.{table.name}.{wanted.name}")
    search_uuid = new_key(keys, name, origin)
    key_id = active_key_id(host, search_uuid)
    made = SearchColumn(
        wanted.name,
        column.name,
        search_uuid,
        f"{kind_of(wanted.normalize)}_{key_id}",
        wanted.normalize,
        kind,
    )
    record_key(host, made, made.type_name, table.schema)
    _run(host, [*types.create(made), *operators.create(made, table.schema, key_id)])
    _run(host, [row["statement"] for row in host.once(operators.granted(made))])
    # The owner's foreign keys have it; default privileges may have taken it, too.
    host.run(f"GRANT USAGE ON TYPE {made.type} TO PUBLIC")
    host.run(types.comment(made, f"{table.sql}.{ident(column.name)}"))
    return made


def new_key(keys: Keys, name: str, origin: KeyOrigin) -> str:
    """Makes a DEK with one field, which makes tokens. Returns the field's uuid."""
    key_uuid = keys.create(origin.kek, origin.store, name=name)
    search_uuid = keys.add_field(key_uuid, FieldOptions(bind="search"))
    keys.add_first_version(key_uuid, [search_uuid])
    return search_uuid


def record_key(host: Host, search: SearchColumn, type_name: str | None, schema: str) -> None:
    """Records the key. `type_name` is None for a key that will take over the type of another key."""
    host.rows(
        RECORD,
        ["uuid", "name", "name", "text", "text"],
        [search.search_uuid, type_name, schema, search.normalizer, search.plain_type],
    )


def free_name(host: Host, name: str) -> str:
    """Returns the name, with a number if an earlier key has it."""
    number = 1
    while host.row(TAKEN, ["text"], [name if number == 1 else f"{name} {number}"]):
        number += 1
    return name if number == 1 else f"{name} {number}"


def active_key_id(host: Host, search_uuid: str) -> int:
    """Raises KeyNotFound."""
    row = host.row(KEY_ID, ["uuid"], [search_uuid])
    if row is None:
        raise errors.KeyNotFound("the search key has no active version", hint="envelope.keys lists the versions.")
    return int(row["key_id"])


def _run(host: Host, statements: list[str]) -> None:
    """Runs a statement without PostgreSQL's notices: they tell of a type that is made in two steps, and of dropped
    dependents.
    """
    with settings_kept():
        host.setting("SET LOCAL client_min_messages = warning")
        for statement in statements:
            host.run(statement)


def record(host: Host, field_uuid: str, attnum: int, search: SearchColumn) -> None:
    """Records the search column. The table's owner may use the key from now on. Raises NotConfigured."""
    _refuse_clients(host, field_uuid, search)
    state = [search.is_filled, search.is_unique, search.replaces]
    host.rows(USE, USE_TYPES, [field_uuid, search.name, attnum, search.search_uuid, *state])
    host.rows("SELECT envelope_private.renew_seal($1)", ["uuid"], [search.search_uuid])


def _refuse_clients(host: Host, field_uuid: str, search: SearchColumn) -> None:
    """Refuses a key that clients have, for a column whose reads are audited or masked."""
    host.rows(LOCK, ["uuid"], [search.search_uuid])
    (held,) = host.rows(HIDDEN, ["uuid", "uuid"], [search.search_uuid, field_uuid])
    if held["roles"]:
        raise errors.NotConfigured(
            f"clients have the search key of {search.name}, and column {search.source} is audited or masked",
            detail=held["roles"],
            hint=HIDDEN_HINT,
        )


def forget(host: Host, field_uuid: str, name: str) -> None:
    """Removes the record of a search column that is gone."""
    host.rows(FORGET, ["uuid", "name"], [field_uuid, name])


def drop_unused(host: Host, searches: list[SearchColumn]) -> None:
    """Drops the types of keys that no column uses any more. The keys stay, for old backups."""
    for row in host.rows(UNUSED, ["uuid[]"], [[search.search_uuid for search in searches]]):
        key = key_of(host, str(row["search_uuid"]))
        _drop(host, row)
        host.rows(RETIRE, ["uuid"], [key.key_uuid])


def drop_all(host: Host) -> None:
    """Drops the types that dropped tables have left, before all keys are forgotten."""
    for row in host.rows(EVERY):
        _drop(host, row)


def _drop(host: Host, row: Row) -> None:
    if row["type_name"] is not None:
        _run(host, operators.drop(_column("", "", row)))
    _forget_key(host, str(row["search_uuid"]))
    functions.drop_unused(host)


def _forget_key(host: Host, search_uuid: str) -> None:
    """Removes the record of a key, and the grants by which clients got it."""
    for table, column in (("search_key", "search_uuid"), ("client_grant", "field_uuid")):
        host.rows(f"DELETE FROM envelope_private.{table} WHERE {column} = $1", ["uuid"], [search_uuid])


def _column(name: str, source: str, row: Row) -> SearchColumn:
    return SearchColumn(name, source, str(row["search_uuid"]), row["type_name"], row["normalizer"], row["plain_type"])
