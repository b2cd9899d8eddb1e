"""Makes the view, its triggers and its rights over a base table, for protect() and refresh()."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import catalog, generate, grants, inspect, lent
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import replace

# All functions that a view and its base table call, under whatever name the view was made.
FUNCTIONS = f"""
SELECT p.oid::regprocedure::text AS signature, n.nspname || '.' || p.proname AS name
FROM pg_catalog.pg_description d JOIN pg_catalog.pg_proc p ON p.oid = d.objoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE d.classoid = 'pg_proc'::regclass AND d.objsubid = 0
    AND d.description = {literal(generate.COMMENTED)} || $1"""
MADE = """
SELECT p.oid::regprocedure::text AS signature FROM pg_catalog.pg_proc p
WHERE p.pronamespace = $1::regnamespace AND p.proname = ANY ($2::name[])"""
GRANTEES = """
SELECT DISTINCT pg_get_userbyid(a.grantee) AS name FROM pg_catalog.pg_proc p, aclexplode(p.proacl) a
WHERE p.oid = to_regprocedure($1) AND a.grantee NOT IN (0, p.proowner)"""
# Those that seal values of the table outside the server, and write envelopes into its base table.
CLIENTS = """
WITH field AS (SELECT field_uuid FROM envelope_private.field WHERE key_uuid = $1)
SELECT r.rolname AS name FROM pg_catalog.pg_roles r WHERE EXISTS (
    SELECT FROM envelope_private.client_grant g WHERE pg_has_role(r.oid, g.role::oid, 'MEMBER')
        AND (g.field_uuid IN (SELECT field_uuid FROM field) OR g.field_uuid IN (
            SELECT search_uuid FROM envelope_private.search JOIN field USING (field_uuid))))"""
# ALTER TABLE cannot give this state to a view's trigger. The second statement makes every session look again.
FIRES_ALWAYS = f"""
UPDATE pg_catalog.pg_trigger SET tgenabled = '{generate.ALWAYS}'
WHERE tgrelid = $1 AND tgname = ANY ('{{envelope_insert,envelope_update}}')"""
LOOK_AGAIN = "UPDATE pg_catalog.pg_class SET relhastriggers = relhastriggers WHERE oid = $1"


def build(host: Host, table: Table, layout: Layout, acl: list[Row], shape: str | None) -> None:
    """Makes a new view and triggers over the renamed base. `acl` and `shape` are those of the table, if known."""
    catalog.lock_owners(host)
    catalog.allow_owner(host, table)
    make_rights(host, table, layout)
    host.run(generate.stub(layout.view, layout.view_columns))
    host.run(f"ALTER VIEW {layout.view} OWNER TO {ident(table.owner)}")
    # The base table may have columns that the view does not show.
    shown = [column for column in table.columns if column.name in {one.name for one in layout.columns}]
    set_defaults(host, table, layout, shown)
    host.run(generate.view(layout))
    view_oid = inspect.relation_oid(host, layout.view)
    if shape not in (None, inspect.shape(host, view_oid, first=len(layout.columns) - len(layout.searches))):
        raise errors.EnvelopeError(f"{layout.view} came out with other columns than its table; nothing was changed")
    host.rows("UPDATE envelope_private.key SET view = $2 WHERE base = $1::oid", ["oid", "oid"], [table.oid, view_oid])
    _hand_over(host, table, layout, view_oid, acl)
    if table.comment is not None:
        grants.comment(host, f"VIEW {layout.view}", table.comment)
    describe(host, layout, shown)
    make_writes(host, table, layout, view_oid)


def make_rights(host: Host, table: Table, layout: Layout) -> None:
    """Makes the relations that hand the capabilities of now to the view, and the seals of now to its triggers."""
    for name, statement in generate.rights(layout).items():
        found = host.row("SELECT to_regclass($1) AS found", ["text"], [name])
        if not (found and found["found"]):
            host.run(statement)
            host.run(f"COMMENT ON MATERIALIZED VIEW {name} IS 'pg_envelope: capabilities, read by the view alone'")
            host.run(f"ALTER MATERIALIZED VIEW {name} OWNER TO {ident(_extension_owner(host))}")
        # PostgreSQL freezes the row of a REFRESH, so transactions with older snapshots see it, too.
        host.run(f"REFRESH MATERIALIZED VIEW {name}")
        host.run(f"GRANT SELECT ON {name} TO {ident(table.owner)}")
        # An owner of before has it, and default privileges of an administrator may give it to others.
        for other in host.rows(OTHER_READERS, ["text", "oid"], [name, table.owner_oid]):
            host.run(f"REVOKE ALL ON {name} FROM {other['role']}")
    host.rows("SELECT envelope_private.keep_seals($1)", ["uuid"], [layout.key_uuid])


OTHER_READERS = """
SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role
FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
WHERE c.oid = $1::regclass AND a.grantee NOT IN (c.relowner, $2)"""


def _extension_owner(host: Host) -> str:
    row = host.row(EXTENSION_OWNER)
    assert row is not None
    return str(row["name"])


EXTENSION_OWNER = """
SELECT pg_get_userbyid(extowner) AS name FROM pg_catalog.pg_extension WHERE extname = 'pg_envelope'"""


def make_writes(host: Host, table: Table, layout: Layout, view_oid: int) -> None:
    """Makes the functions and triggers behind the view, and the guard of the base table."""
    before = functions(host, layout.key_uuid)
    _make_checks(host, table, layout)
    for statement in generate.functions(layout):
        host.run(statement)
    names = generate.function_names(layout.view_name, len(layout.checks), upsert=bool(layout.inputs))
    made = {row["signature"] for row in host.rows(MADE, ["text", "text[]"], [ident(layout.schema), names])}
    for signature in made:
        _own(host, layout, signature, table.owner)
    for statement in generate.triggers(layout):
        host.run(statement)
    _drop_old_triggers(host, table, layout, view_oid)
    drop_no_drafts(host, table)
    if layout.has_drafts:
        host.run(f"ALTER TABLE {layout.base} ADD {generate.no_drafts(layout)}")
    for signature in before - made:
        host.run(f"DROP FUNCTION {signature}")
    host.rows(FIRES_ALWAYS, ["oid"], [view_oid])
    host.rows(LOOK_AGAIN, ["oid"], [view_oid])


def drop_no_drafts(host: Host, table: Table) -> None:
    for row in host.rows(HAS_NO_DRAFTS, ["oid", "name"], [table.oid, inspect.NO_DRAFTS]):
        host.run(f"ALTER TABLE {row['relation']} DROP CONSTRAINT {ident(inspect.NO_DRAFTS)}")


HAS_NO_DRAFTS = """
SELECT conrelid::regclass::text AS relation FROM pg_catalog.pg_constraint
WHERE conrelid = $1 AND conname = $2 AND contype = 'c'"""


def _make_checks(host: Host, table: Table, layout: Layout) -> None:
    """Runs as the owner, because reading a literal of a domain can run the domain's CHECK."""
    statements = generate.check_functions(layout)
    if not statements:
        return
    with lent.create(host, table.owner_oid, layout.schema, made=len(statements)):
        for statement in statements:
            AsOwner(host, table.owner_oid).run(statement)


def _own(host: Host, layout: Layout, signature: str, owner: str) -> None:
    host.run(f"ALTER FUNCTION {signature} OWNER TO {ident(owner)}")
    # Default privileges may have given EXECUTE to others. Whoever may EXECUTE it could put it on a table of their own.
    for grantee in host.rows(GRANTEES, ["text"], [signature]):
        host.run(f"REVOKE ALL ON FUNCTION {signature} FROM {ident(grantee['name'])}")
    grants.comment(host, f"FUNCTION {signature}", generate.COMMENTED + layout.key_uuid)


def _drop_old_triggers(host: Host, table: Table, layout: Layout, view_oid: int) -> None:
    """Drops the triggers that the layout does not have any more."""
    wanted = generate.trigger_names(layout)
    for relation, oid in ((layout.view, view_oid), (layout.base, table.oid)):
        for row in host.rows(OUR_TRIGGERS, ["oid"], [oid]):
            if row["name"] not in wanted:
                host.run(f"DROP TRIGGER {ident(row['name'])} ON {relation}")


OUR_TRIGGERS = """
SELECT tgname AS name FROM pg_catalog.pg_trigger
WHERE tgrelid = $1 AND NOT tgisinternal AND tgname ~ '^(envelope_|~envelope_guard_|!envelope_upsert_)'"""


def functions(host: Host, key_uuid: str) -> set[str]:
    """Returns the generated functions of a protected table, by their signatures."""
    return {row["signature"] for row in host.rows(FUNCTIONS, ["text"], [key_uuid])}


def describe(host: Host, layout: Layout, columns: Sequence[Column]) -> None:
    """Gives the table's comments to the view's columns."""
    shown = {column.name for column in layout.columns}
    for column in columns:
        if column.comment is not None and column.name in shown:
            grants.comment(host, f"COLUMN {layout.view}.{ident(column.name)}", column.comment)


def set_defaults(host: Host, table: Table, layout: Layout, columns: Sequence[Column]) -> None:
    """Gives the table's defaults to the view's columns, all at once: after each ALTER, both relations are looked at."""
    parts = [set_default(column.name, column.default) for column in columns if column.default and not column.generated]
    if parts:
        # This runs as the owner, because reading a literal can run a domain's CHECK.
        AsOwner(host, table.owner_oid).run(f"ALTER VIEW {layout.view} {commas(parts)}")


def set_default(column: str, default: str | None) -> str:
    """Returns the part of an ALTER TABLE or ALTER VIEW for one column."""
    return f"ALTER {ident(column)} {'DROP DEFAULT' if default is None else f'SET DEFAULT {default}'}"


def _hand_over(host: Host, table: Table, layout: Layout, view_oid: int, acl: list[Row]) -> None:
    """Gives the table's privileges to the view. The base table keeps only its owner's, or under row security all of
    them.
    """
    grants.give(host, view_oid, layout.view, acl)
    grant_base(host, table, layout, view_oid)


def grant_base(host: Host, table: Table, layout: Layout, view_oid: int) -> None:
    """Gives the owner the rights by which view and triggers reach the base table: the owner may have revoked them.
    Others keep REFERENCES and TRUNCATE, and clients all that they have.

    Where writes run code of the table, and under row-level security, they reach it with the rights of their caller, who
    also needs its identity sequences.
    """
    if layout.as_caller:
        acl = grants.read(host, view_oid)
        host.rows(
            "UPDATE envelope_private.key SET mirrored = $2 WHERE base = $1::oid",
            ["oid", "text"],
            [table.oid, mirror(acl)],
        )
        clients = _clients(host, table, layout)
        theirs = [row for row in grants.read(host, table.oid) if row["grantee"] in clients and row not in acl]
        grants.give(host, table.oid, layout.base, [*acl, *theirs])
        for statement in sequence_grants(table, acl, "GRANT", "TO"):
            host.run(statement)
    else:
        grants.revoke_all(host, table.oid, layout.base, keep=[table.owner, *_clients(host, table, layout)])
        host.run(f"GRANT ALL ON {layout.base} TO {ident(table.owner)}")
        kept = grants.read(host, table.oid)
        shown = [row for row in _of_no_view(host, table, layout, view_oid) if row not in kept]
        grants.give(host, table.oid, layout.base, [*kept, *shown])


def _clients(host: Host, table: Table, layout: Layout) -> set[str]:
    """Returns the roles, other than the owner, that seal values of the table outside the server."""
    return {row["name"] for row in host.rows(CLIENTS, ["uuid"], [layout.key_uuid])} - {table.owner}


def _of_no_view(host: Host, table: Table, layout: Layout, view_oid: int) -> Iterator[Row]:
    """Yields the privileges that no view can serve, by its own: they show no value, and need the base table."""
    sealed = layout.protected.keys() | layout.searches.keys()
    for row in grants.read(host, view_oid):
        is_other_s = row["grantee_oid"] != table.owner_oid and row["column"] not in sealed
        if is_other_s and row["privilege"] in ("REFERENCES", "TRUNCATE"):
            yield row


def mirror(acl: list[Row]) -> str:
    """Returns privileges as one text, to see whether those of a view have changed since the base table got the same."""
    return repr(acl)


def sequence_grants(table: Table, acl: list[Row], verb: str, to: str) -> list[str]:
    """Returns the statements for identity sequences. A table draws its identity for every role that may INSERT, but a
    trigger that runs as its caller needs USAGE.
    """
    grantees = {grants.role(row["grantee"]) for row in acl if row["privilege"] == "INSERT"} - {ident(table.owner)}
    return [
        f"{verb} USAGE ON SEQUENCE {column.sequence} {to} {grantee}"
        for column in table.columns
        if column.identity
        for grantee in sorted(grantees)
    ]


def as_shown(base: Table, view: Table, layout: Layout) -> Table:
    """Returns the base table with what people see in the view: comments, and the defaults of protected columns."""
    columns = tuple(_column_as_shown(column, view, layout) for column in base.columns)
    return replace(base, columns=columns)


def _column_as_shown(column: Column, view: Table, layout: Layout) -> Column:
    seen = view.column(column.name)
    if seen is None:
        return column
    default = seen.default if column.name in layout.protected else column.default
    return replace(column, comment=seen.comment, default=default)
