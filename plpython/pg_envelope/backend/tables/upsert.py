"""allow_upsert() and drop_upsert(): a relation beside a protected table that takes ON CONFLICT DO UPDATE."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.search import place
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas, ident, qualified
from pg_envelope.backend.tables import generate, grants, inspect
from pg_envelope.backend.tables.build import make_writes
from pg_envelope.backend.tables.generate import Layout, upsert
from pg_envelope.backend.tables.inspect import INPUT, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import replace
from pg_envelope.typed import NamedTuple

# The relation by whichever name: the view whose query names the base table's columns of this type.
RELATION = f"""
SELECT DISTINCT n.nspname AS schema, c.relname AS name
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
    AND d.refobjsubid = a.attnum AND d.classid = 'pg_rewrite'::regclass
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE a.attrelid = $1 AND a.atttypid = '{INPUT}'::regtype AND obj_description(c.oid, 'pg_class') LIKE $2"""
BASE = """
SELECT n.nspname AS schema, c.relname AS name FROM envelope.relations() r
JOIN pg_catalog.pg_class c ON c.oid = r.base_table JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE $1 IN (r.relation, r.base_table)"""
COMMENT = f"{generate.COMMENTED}values that are written here are encrypted; read them from"
TAKEN = """
SELECT to_regclass($1) IS NOT NULL AS relation, to_regprocedure($2) IS NOT NULL AS function"""


class Relation(NamedTuple):
    schema: str
    name: str

    @property
    def sql(self) -> str:
        return qualified(self.schema, self.name)


def allow(host: Host, oid: int) -> None:
    """Makes the upsert relation, or makes it again. Raises NotProtected, Unsupported, Locked."""
    found = place.find(host, oid)
    _refuse(host, found)
    place.lock(host, found)
    base, layout = found.base, found.layout
    missing = {name: generate.input_name(name) for name in layout.protected if name not in layout.inputs}
    if missing:
        _add(host, base, replace(layout, inputs=missing))
    layout = replace(layout, inputs={**layout.inputs, **missing})
    make_writes(host, base, layout, found.view.oid)
    sync(host, base, found.view, layout)
    host.notice(
        f"{upsert.relation(layout)} takes INSERT ... ON CONFLICT DO UPDATE for {layout.view}",
        hint="Values are read through the table's own name: docs/protected-tables.md.",
    )


def drop(host: Host, oid: int) -> None:
    """Raises NotProtected, BadInput where there is no upsert relation, Locked, or PostgreSQL's own error when
    something depends on it.
    """
    found = place.find(host, oid)
    if not found.layout.inputs:
        raise errors.BadInput(f"{found.layout.view} has no upsert relation")
    place.lock(host, found)
    layout = replace(found.layout, inputs={})
    _drop_relation(host, found.base)
    make_writes(host, found.base, layout, found.view.oid)
    drop_columns(host, found.base)


def truncate(host: Host, oid: int, restart_identity: bool, cascade: bool) -> None:
    row = host.row(BASE, ["oid"], [oid])
    if row is None:
        raise errors.NotProtected("the table is not protected", hint="TRUNCATE <table>")
    identity = " RESTART IDENTITY" if restart_identity else ""
    host.run(f"TRUNCATE TABLE {qualified(row['schema'], row['name'])}{identity}{' CASCADE' if cascade else ''}")


def refuse_allowed(found: Place) -> None:
    """Raises NotConfigured for a table that has an upsert relation."""
    if found.layout.inputs:
        raise errors.NotConfigured(
            f"{found.layout.view} has an upsert relation", hint="CALL envelope.drop_upsert(...) first."
        )


def dropped(host: Host, base: Table, layout: Layout) -> Layout:
    """Drops what allow() made, but for the columns. Returns the layout without it."""
    _drop_relation(host, base)
    for name in upsert.TRIGGERS if layout.inputs else ():
        host.run(f"DROP TRIGGER IF EXISTS {ident(name)} ON {base.sql}")
    return replace(layout, inputs={})


def drop_columns(host: Host, base: Table) -> None:
    if given := [column.name for column in base.columns if column.type == INPUT]:
        host.run(f"ALTER TABLE {base.sql} {commas(f'DROP COLUMN {ident(name)}' for name in given)}")


def sync(host: Host, base: Table, view: Table, layout: Layout) -> None:
    """Brings the upsert relation in step with the table's view: name, columns, defaults, owner and privileges."""
    if not layout.inputs:
        return
    wanted = upsert.relation(layout)
    for relation in relations(host, base):
        _move(host, relation, layout)
    host.run(upsert.view(layout))
    host.run(f"ALTER VIEW {wanted} OWNER TO {ident(view.owner)}")
    grants.comment(host, f"VIEW {wanted}", f"{COMMENT} {layout.view}")
    defaults = [upsert.default(layout, column) for column in view.columns if column.name in layout.inputs]
    # It runs as the owner, because reading a literal can run a domain's CHECK.
    AsOwner(host, view.owner_oid).run(f"ALTER VIEW {wanted} {commas(defaults)}")
    grant(host, base, view, layout)


def _move(host: Host, relation: Relation, layout: Layout) -> None:
    name = generate.upsert_name(layout.view_name)
    if relation.name != name:
        host.run(f"ALTER VIEW {relation.sql} RENAME TO {ident(name)}")
    if relation.schema != layout.schema:
        host.run(f"ALTER VIEW {qualified(relation.schema, name)} SET SCHEMA {ident(layout.schema)}")


def grant(host: Host, base: Table, view: Table, layout: Layout) -> None:
    """Gives the view's privileges to the upsert relation."""
    if not layout.inputs:
        return
    wanted = [row for row in grants.read(host, view.oid) if row["column"] not in layout.searches]
    for relation in relations(host, base):
        grants.give(host, inspect.relation_oid(host, relation.sql), relation.sql, wanted)


def _refuse(host: Host, found: Place) -> None:
    layout, base = found.layout, found.base
    asking = [
        f"CHECK {check.name} runs code of users, or asks who writes" for check in layout.checks if check.runs_code
    ]
    taken = [
        generate.input_name(n)
        for n in layout.protected
        if n not in layout.inputs and base.column(generate.input_name(n))
    ]
    masked = [f"column {name} has masks" for name, found in layout.protected.items() if found.is_masked]
    obstacles = [*asking, *masked, *(f"a column has the name {name} already" for name in taken)]
    if not layout.inputs:
        obstacles += _taken(host, {"relation": upsert.relation(layout), "function": f"{layout.function('upsert')}()"})
    place.refuse(found, "allow_upsert", obstacles)


def _taken(host: Host, names: dict[str, str]) -> list[str]:
    row = host.row(TAKEN, ["text", "text"], [names["relation"], names["function"]])
    return [f"{name} exists already" for kind, name in names.items() if row and row[kind]]


def _add(host: Host, base: Table, layout: Layout) -> None:
    added = commas(f"ADD COLUMN {ident(given)} {INPUT}" for given in layout.inputs.values())
    host.run(f"ALTER TABLE {base.sql} {added}")
    # It rewrites the table, which runs code of the owner's indexes.
    AsOwner(host, base.owner_oid).run(upsert.filled(layout))


def _drop_relation(host: Host, base: Table) -> None:
    for relation in relations(host, base):
        host.run(f"DROP VIEW {relation.sql}")


def relations(host: Host, base: Table) -> list[Relation]:
    """Returns the upsert relation of a base table, if it has one."""
    return [Relation(**row) for row in host.rows(RELATION, ["oid", "text"], [base.oid, f"{COMMENT} %"])]
