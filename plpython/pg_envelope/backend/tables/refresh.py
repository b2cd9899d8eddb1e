"""Carries out refresh(): makes view and triggers again, after the base table gained or renamed columns, or changed its
owner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.rollout import proofs
from pg_envelope.backend.search import carried
from pg_envelope.backend.sqltext import ident, qualified
from pg_envelope.backend.tables import build, catalog, generate, grants, inspect, kept, locks, upsert
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner

SCRATCH = "pg_temp.pg_envelope_renamed"
EXPRESSION = """
SELECT pg_get_expr(conbin, conrelid) AS expression FROM pg_catalog.pg_constraint
WHERE conrelid = to_regclass($1) AND contype = 'c'"""


def refresh(host: Host, oid: int) -> None:
    """Raises NotProtected, or PostgreSQL's own error when the view cannot take the change in place."""
    key = catalog.key_of(host, oid)
    _lock(host, key)
    table = inspect.inspect(host, key["base"])
    if key["view_relname"] is None:
        _make_again(host, key, table)
        return
    before = inspect.inspect(host, key["view"])
    if before.schema != table.schema:
        raise errors.Unsupported(
            f"{before.sql} and its base table {table.sql} are in different schemas", hint="Move one of them back."
        )
    renamed = {old: new for old, new in catalog.pairs(host, key, table) if old != new}
    key = take_over_names(host, key, table, before, renamed)
    table = inspect.inspect(host, key["base"])
    shown = {name for _, name in catalog.pairs(host, key, table)}
    layout = catalog.layout_of(host, key, table)
    catalog.record_modes(host, layout)
    catalog.allow_owner(host, table)
    build.make_rights(host, table, layout)
    host.run(generate.view(layout))
    host.run(f"ALTER VIEW {layout.view} OWNER TO {ident(table.owner)}")
    added = [column for column in layout.columns if column.name not in shown]
    build.set_defaults(host, table, layout, added)
    build.describe(host, layout, added)
    build.make_writes(host, table, layout, before.oid)
    build.grant_base(host, table, layout, before.oid)
    upsert.sync(host, table, inspect.inspect(host, before.oid), layout)
    host.rows(
        "SELECT envelope_private.renew_seal(uuid) FROM envelope_private.field f LEFT JOIN envelope_private.search s"
        " USING (field_uuid), unnest(ARRAY[f.field_uuid, s.search_uuid]) uuid"
        " WHERE f.key_uuid = $1 AND uuid IS NOT NULL",
        ["uuid"],
        [key["key_uuid"]],
    )
    catalog.release_owners(host)
    kept.opens(host, layout, table)


def _lock(host: Host, key: Row) -> None:
    base = inspect.inspect(host, key["base"])
    if key["view_relname"] is None:
        locks.exclusive(host, base.sql)
        return
    view = inspect.inspect(host, key["view"])
    if view.owner != base.owner:
        # Another transaction could just take the right from the new owner, whose first table this may be.
        catalog.lock_owners(host)
        # A lock on a view also locks its base table, with the right of the view's owner.
        host.run(f"ALTER VIEW {view.sql} OWNER TO {ident(base.owner)}")
    locks.exclusive(host, view.sql, base.sql)


def _make_again(host: Host, key: Row, table: Table) -> None:
    """Makes a view again that was dropped with its grants and defaults. The base table holds everything else."""
    name = table.name.removesuffix("_encrypted")
    if host.row(
        "SELECT to_regclass($1)::oid AS taken WHERE to_regclass($1) IS NOT NULL",
        ["text"],
        [qualified(table.schema, name)],
    ):
        raise errors.Unsupported(
            f"the view over {table.sql} was dropped, and another relation has its name", hint=f"Rename {name} first."
        )
    layout = catalog.layout_of(host, {**key, "view_relname": name}, table)
    build.build(host, table, layout, grants.read(host, table.oid), None)
    kept.opens(host, layout, table)
    host.warning(
        f"{layout.view} was dropped and is made again",
        hint="Grants, column defaults and comments of the old view are gone: only its owner has rights on it.",
    )


def take_over_names(host: Host, key: Row, table: Table, before: Table, renamed: Mapping[str, str]) -> Row:
    """Renames the view's columns, the row key and the CHECK expressions after columns that were renamed in the base
    `table`. `before` is the view, `renamed` has the new names by the old ones. Returns the key's new row.
    """
    if not renamed:
        return key
    rewritten = partial(_renamed, host, before, renamed)
    checks = [
        {
            **check,
            "expression": rewritten(check["expression"]),
            "columns": [renamed.get(name, name) for name in check["columns"]],
        }
        for check in json.loads(key["checks"])
    ]
    carried.rename(host, key["key_uuid"], renamed, rewritten)
    proofs.rename(host, key["key_uuid"], table, renamed)
    _rename_columns(host, "VIEW", before.sql, renamed)
    for relation in upsert.relations(host, table):
        _rename_columns(host, "VIEW", relation.sql, renamed)
    given = {generate.input_name(old): generate.input_name(new) for old, new in renamed.items()}
    _rename_columns(host, "TABLE", table.sql, {old: new for old, new in given.items() if table.column(old)})
    row_key = [renamed.get(name, name) for name in key["row_key"]]
    scope_column = key["scope_column"] and renamed.get(key["scope_column"], key["scope_column"])
    catalog.rename(host, key["key_uuid"], renamed, row_key, scope_column, json.dumps(checks))
    return catalog.key_of(host, before.oid)


def _rename_columns(host: Host, kind: str, relation: str, renamed: Mapping[str, str]) -> None:
    """Renames in two steps, because columns may have exchanged their names."""
    for position, old in enumerate(renamed):
        host.run(f"ALTER {kind} {relation} RENAME COLUMN {ident(old)} TO {ident(f'pg_envelope {position}')}")
    for position, new in enumerate(renamed.values()):
        host.run(f"ALTER {kind} {relation} RENAME COLUMN {ident(f'pg_envelope {position}')} TO {ident(new)}")


def _renamed(host: Host, view: Table, renamed: Mapping[str, str], expression: str) -> str:
    """Returns a condition with the new names, as PostgreSQL writes it, through an empty table whose columns are
    renamed.
    """
    host.run(f"CREATE TEMPORARY TABLE {SCRATCH} (LIKE {view.sql})")
    try:
        host.run(f"ALTER TABLE {SCRATCH} OWNER TO {ident(view.owner)}")
        AsOwner(host, view.owner_oid).run(f"ALTER TABLE {SCRATCH} ADD CHECK ({expression})")
        _rename_columns(host, "TABLE", SCRATCH, renamed)
        row = host.row(EXPRESSION, ["text"], [SCRATCH])
    finally:
        host.run(f"DROP TABLE {SCRATCH}")
    return str(row["expression"]) if row else expression
