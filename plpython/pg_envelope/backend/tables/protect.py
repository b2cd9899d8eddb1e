"""Carries out protect(): a plain table becomes a base table of envelopes and a decrypting view, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.search import carried, protecting
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.carried import Carried
from pg_envelope.backend.sqltext import ROW, commas, derived_name, ident, of_any_row
from pg_envelope.backend.tables import (
    bodies,
    catalog,
    dependents,
    generate,
    grants,
    inspect,
    mentions,
    options,
    publications,
    refusals,
    scoped,
)
from pg_envelope.backend.tables.build import build
from pg_envelope.backend.tables.dependents import Dependent
from pg_envelope.backend.tables.generate import Layout, Protected
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.options import ProtectArguments, Scoping
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.prepare import prepare
from pg_envelope.records import replace

RESIDUE_HINT = (
    "Plaintext from before is still in WAL, in backups and in old statistics: docs/after-protecting.md says how to "
    "get rid of it. New writes through {view} leave no plaintext."
)
COMPRESSION = {"p": "pglz", "l": "lz4"}


def protect(host: Host, keys: Keys, oid: int, asked: ProtectArguments) -> None:
    """Protects the table. Raises BadInput, AlreadyProtected or Unsupported before anything is touched."""
    options.check_store(asked.store)
    prepared = prepare(host, oid, asked)
    table, wanted, found, dropped = prepared.table, prepared.wanted, prepared.carried, prepared.dropped
    refusals.refuse(table, wanted, prepared.obstacles)
    key_uuid, fields = make_keys(host, keys, table, wanted, asked)
    layout = layout_for(table, key_uuid, wanted, fields, asked.scoping)
    catalog.record(host, table, layout)
    carried.record(host, key_uuid, [*found, *dropped])
    acl, shape = grants.read(host, oid), inspect.shape(host, oid)
    layout = _searched(host, keys, table, layout, wanted)
    with dependents.carried(host, prepared.followers):
        if layout.searches:
            with protecting.usable(host, table):
                _seal(host, table, layout, [*found, *dropped])
                protecting.index(host, table, layout, wanted, found)
        else:
            _seal(host, table, layout, dropped)
        build(host, table, layout, acl, shape)
    protecting.grant(host, layout, acl)
    report(host, table, layout)
    tell_readers(host, layout, prepared.followers)
    protecting.tell(host, layout, found)
    protecting.tell_dropped(host, dropped)


def make_keys(
    host: Host, keys: Keys, table: Table, wanted: Mapping[str, FieldOptions], asked: ProtectArguments
) -> tuple[str, dict[str, str]]:
    """Makes the table's key, its fields and their first versions. Returns the fields' uuids by column.

    `wanted` has the searches that indexes ask for, too.
    """
    scoping, kek, store = asked.scoping, asked.kek, asked.store
    if scoping.of is not None:
        kek, store = scoped.shared(host, scoping, kek, store)
    elif scoping.kind == "subject":
        store = store or "catalog"
    key_uuid = keys.create(kek, store, base=table.oid)
    fields = {name: keys.add_field(key_uuid, options) for name, options in wanted.items()}
    if scoping.kind == "table":
        keys.add_first_version(key_uuid, list(fields.values()))
    elif scoping.of is None:
        keys.count(key_uuid)
    scoped.record(host, key_uuid, scoping)
    return key_uuid, fields


def layout_for(
    table: Table, key_uuid: str, wanted: Mapping[str, FieldOptions], fields: Mapping[str, str], scoping: Scoping
) -> Layout:
    """Decides how the protected table shall look."""
    protected = {
        column.name: Protected(column, fields[column.name], wanted[column.name])
        for column in table.columns
        if column.name in wanted
    }
    return Layout(
        key_uuid=key_uuid,
        schema=table.schema,
        view_name=table.name,
        base_name=derived_name(table.name, "_encrypted"),
        columns=table.columns,
        protected=protected,
        row_key=table.primary_key,
        checks=tuple(check for check in table.checks if check.columns & set(protected)),
        by_role=table.row_security,
        as_caller=table.writes_as_caller(table.checks),
        scope_column=scoping.column,
        erased=scoping.erased,
        key_is_deferrable=table.key_is_deferrable,
    )


def _searched(host: Host, keys: Keys, table: Table, layout: Layout, wanted: Mapping[str, FieldOptions]) -> Layout:
    """Returns the layout with the search columns, which are still empty."""
    searches = protecting.make(host, keys, table, wanted, search_keys.origin_of(host, layout.key_uuid))
    protecting.add(host, table, searches.values())
    layout = replace(layout, columns=inspect.inspect(host, table.oid).columns, searches=searches)
    protecting.record(host, layout)
    return layout


def _seal(host: Host, table: Table, layout: Layout, indexes: Sequence[Carried]) -> None:
    """Rewrites the table once, from values to envelopes. No row is ever INSERTed in the clear and UPDATEd later."""
    for index in indexes:
        host.run(index.drop(table.schema, table.sql))
    host.run(loosened(table, layout))
    with dependents.carried(host, dependents.own.read(host, table, layout.protected)):
        AsOwner(host, table.owner_oid).run(sealed(table, layout))
    host.run(settled(table, layout))
    host.run(renamed(table, layout))


def loosened(table: Table, layout: Layout) -> str:
    """Takes away what would look at envelopes. The view gets it."""
    parts = [f"DROP CONSTRAINT {ident(check.name)}" for check in layout.checks]
    parts += [f"ALTER {ident(name)} DROP DEFAULT" for name in layout.protected]
    return f"ALTER TABLE {table.sql} {commas(parts)}"


def sealed(table: Table, layout: Layout) -> str:
    """The one statement that rewrites the table."""
    parts = [
        f"ALTER {ident(name)} TYPE envelope.ciphertext USING {_first_envelope(layout, protected)}"
        for name, protected in layout.protected.items()
    ]
    return f"ALTER TABLE {table.sql} {commas([*parts, *protecting.filled(layout)])}"


def settled(table: Table, layout: Layout) -> str:
    # Envelopes do not compress, and their headers are read without the rest.
    stored = [f"ALTER {ident(name)} SET STORAGE EXTERNAL" for name in layout.protected]
    # The setting is kept here for unprotect(). It has no effect on a column that is stored EXTERNAL.
    stored += [part for protected in layout.protected.values() for part in set_compression(protected.column)]
    return f"ALTER TABLE {table.sql} {commas(stored)}"


def renamed(table: Table, layout: Layout) -> str:
    return f"ALTER TABLE {table.sql} RENAME TO {ident(layout.base_name)}"


def set_compression(column: Column) -> list[str]:
    """Returns the part of an ALTER TABLE, or nothing for a column that takes the server's own method."""
    method = COMPRESSION.get(column.compression)
    return [f"ALTER {ident(column.name)} SET COMPRESSION {method}"] if method else []


def _first_envelope(layout: Layout, protected: Protected) -> str:
    """Makes the first envelope by the role's right, because USING takes no sub-select. The owner has the right to the
    fields.
    """
    return of_any_row(generate.encrypted_as_role(layout, protected, source=ROW))


def tell_readers(host: Host, layout: Layout, followers: Sequence[Dependent]) -> None:
    readers = dependents.readers_as_owner(followers) if layout.by_role else []
    if readers:
        host.warning(
            f"objects over {layout.view} show the rows of who asks from now on, not those of their owner",
            detail=", ".join(readers),
            hint="The table has row-level security. Their readers need a right to it: docs/protected-tables.md.",
        )


def report(host: Host, table: Table, layout: Layout) -> None:
    hint = RESIDUE_HINT.format(view=layout.view)
    host.notice(f"{layout.view} is protected; its base table is {layout.base}", hint=hint)
    publications.warn(host, table.oid, layout.base)
    mentions.tell(host, layout)
    noticed = list(bodies.differences(host, table.oid, layout))
    if noticed:
        host.warning(
            f"triggers of {layout.base} will notice that it is protected",
            detail="\n".join(noticed),
            hint=f"{layout.function('clear')}(NEW) gives a trigger the row in the clear: docs/protected-tables.md.",
        )
    if table.runs_code and not layout.as_caller:
        host.warning(
            f"code of {layout.base} runs as its owner, under search_path = pg_catalog",
            hint="Without INSERT and UPDATE privileges on single columns it would run as on the plain table.",
        )
