"""Gives the name of a protected table's view to its base table, and the names back.

The view is empty meanwhile, so nothing holds on to the columns of the base table. Both are locked until the transaction
ends, and a constraint trigger refuses a commit before the names are back: no other session meets the exchange.
"""

from __future__ import annotations

import json

from pg_envelope.backend.ddl import moved_checks
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import derived_name, ident, qualified
from pg_envelope.backend.tables import build, catalog, dependents, generate, grants, inspect, upsert
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Table

RECORD = """
INSERT INTO envelope_private.exchange (base, view, view_name, base_name, names, numbers, checks)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)"""
RECORD_TYPES = ["oid", "oid", "name", "name", "text[]", "int2[]", "text"]
# DROP TABLE of the base table takes these along, as it takes its indexes along. What uses the view still stops it.
GO_WITH_THE_TABLE = """
INSERT INTO pg_catalog.pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
SELECT w.classid, w.objid, 0, 'pg_class'::regclass, $1, 0, 'a' FROM (
    SELECT 'pg_class'::regclass::oid, $2
    UNION ALL SELECT 'pg_proc'::regclass, to_regprocedure(f)::oid FROM unnest($3::text[]) f) AS w (classid, objid)"""
STAY = """
DELETE FROM pg_catalog.pg_depend d
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = 0 AND d.deptype = 'a' AND (
    d.classid = 'pg_class'::regclass AND d.objid = $2
    OR d.classid = 'pg_proc'::regclass AND d.objid = ANY ($3::regprocedure[]::oid[]))"""


def begin(host: Host, key: Row) -> None:
    """Raises Locked, or Conflict for a table in a roll-out."""
    catalog.refuse_rollout(host, key["base"], "begin_ddl")
    base, view = inspect.inspect(host, key["base"]), inspect.inspect(host, key["view"])
    dependents.lock(host, view, view.sql, base.sql)
    base, view = inspect.inspect(host, key["base"]), inspect.inspect(host, key["view"])
    key = catalog.key_of(host, base.oid)
    layout = catalog.layout_of(host, key, base)
    checks = moved_checks.stand_in(host, base, layout)
    _record(host, key, base, view, checks)
    made = [base.oid, view.oid, list(build.functions(host, layout.key_uuid))]
    host.rows(GO_WITH_THE_TABLE, ["oid", "oid", "text[]"], made)
    if base.comment != view.comment:
        grants.comment(host, f"TABLE {base.sql}", view.comment)
    _guard_every_write(host, base, layout)
    # The upsert relation and its triggers would hold on to columns. refresh() makes them again.
    upsert.dropped(host, base, layout)
    host.run(generate.emptied(layout, view.columns))
    host.run(f"ALTER VIEW {view.sql} RENAME TO {ident(aside(view.name))}")
    host.run(f"ALTER TABLE {base.sql} RENAME TO {ident(view.name)}")


def aside(view_name: str) -> str:
    """Returns the name of the view meanwhile. Errors of PostgreSQL can show it."""
    return derived_name(view_name, " (view)")


def _record(host: Host, key: Row, base: Table, view: Table, checks: dict[str, int]) -> None:
    numbers = {column.name: column.attnum for column in base.columns}
    pairs = catalog.pairs(host, key, base)
    # A transaction that has said SET CONSTRAINTS ALL IMMEDIATE, as Django's do, would be refused at once.
    host.run("SET CONSTRAINTS envelope_private.still_exchanged DEFERRED")
    columns = [shown for shown, _ in pairs], [numbers[name] for _, name in pairs]
    host.rows(RECORD, RECORD_TYPES, [base.oid, view.oid, view.name, base.name, *columns, json.dumps(checks)])


def _guard_every_write(host: Host, base: Table, layout: Layout) -> None:
    """Makes the guard run at every write: a trigger for some columns would hold on to them."""
    for statement in generate.every_guard(layout):
        host.run(statement)
    for row in host.rows(build.OUR_TRIGGERS, ["oid"], [base.oid]):
        if row["name"] == generate.GUARDS["write"]:
            host.run(f"DROP TRIGGER {ident(row['name'])} ON {layout.base}")


def end(host: Host, exchanged: Row) -> Table | None:
    """Gives the names back, whatever schema and name the base table has by now. Returns it, or None if it is gone."""
    base, view = exchanged["base"], exchanged["view"]
    host.rows("DELETE FROM envelope_private.exchange WHERE base = $1", ["oid"], [base])
    if host.row("SELECT oid FROM pg_catalog.pg_class WHERE oid = $1", ["oid"], [base]) is None:
        return None
    now, hidden = inspect.inspect(host, base), inspect.inspect(host, view)
    key = catalog.key_of(host, base)
    made = [base, view, list(build.functions(host, str(key["key_uuid"])))]
    host.rows(STAY, ["oid", "oid", "text[]"], made)
    host.run(f"ALTER TABLE {now.sql} RENAME TO {ident(_base_name(exchanged, now.name))}")
    if hidden.schema != now.schema:
        host.run(f"ALTER VIEW {hidden.sql} SET SCHEMA {ident(now.schema)}")
    host.run(f"ALTER VIEW {qualified(now.schema, hidden.name)} RENAME TO {ident(now.name)}")
    return inspect.inspect(host, base)


def _base_name(exchanged: Row, name: str) -> str:
    """Returns the name of the base table behind a view of this name. One that was given by hand stays."""
    derived = derived_name(exchanged["view_name"], "_encrypted")
    return derived_name(name, "_encrypted") if exchanged["base_name"] == derived else str(exchanged["base_name"])
