"""Keeps protected tables in the catalog: protect() records them, and everything after it reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.search.column import STORED, SearchColumn
from pg_envelope.backend.tables import lent
from pg_envelope.backend.tables.generate import Layout, Protected, input_name
from pg_envelope.backend.tables.inspect import INPUT, Check, Column, Table

KEY = "SELECT * FROM envelope_private.protected_table WHERE $1 IN (base, view)"
FIELDS = """
SELECT c.field_uuid, c.attname, c.attnum, c.bind, c.suite, c.pad, c.audit, c.type, c.collation, c.storage,
    c.plain_column, c.plain_not_null, c.in_rollout,
    coalesce((SELECT n.beside FROM envelope_private.adoption n WHERE n.field_uuid = c.field_uuid), '{}') AS beside,
    EXISTS (SELECT FROM envelope_private.mask m WHERE m.field_uuid = c.field_uuid) AS is_masked,
    EXISTS (SELECT FROM envelope_private.fault x
        WHERE x.field_uuid = c.field_uuid AND x.reason IN ('storage damaged', 'not of its type')) AS careful,
    CASE t.typsubscript WHEN 'array_subscript_handler'::regproc THEN 'a' ELSE t.typtype END AS kind,
    CASE t.typnamespace WHEN 'pg_catalog'::regnamespace THEN t.typname ELSE '' END AS base_type,
    CASE e.typnamespace WHEN 'pg_catalog'::regnamespace THEN e.typname ELSE '' END AS element_type
FROM envelope_private.protected_column c
JOIN pg_catalog.pg_type t ON t.oid = envelope_private.base_type(c.type::regtype)
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE c.key_uuid = $1"""
SEARCH_FIELDS = ("type_name", "normalizer", "plain_type", "is_filled", "is_unique", "replaces")
# By name, and after a rename by number, as protected columns are found. `known`: its name in the view that shows it.
SEARCHES = """
SELECT s.field_uuid, a.attname, s.attname AS known, k.search_uuid, coalesce(k.type_name, o.type_name) AS type_name,
    k.normalizer, k.plain_type, s.is_filled, s.is_unique, s.replaces
FROM envelope_private.field f JOIN envelope_private.search s USING (field_uuid)
JOIN envelope_private.search_key k USING (search_uuid)
LEFT JOIN envelope_private.search r ON r.field_uuid = s.field_uuid AND r.attname = s.replaces
LEFT JOIN envelope_private.search_key o ON o.search_uuid = r.search_uuid
JOIN pg_catalog.pg_attribute a ON a.attrelid = $2 AND NOT a.attisdropped
    AND a.atttypid IN ('envelope_search.token'::regtype, 'envelope_search.grams'::regtype) AND (a.attname = s.attname
        OR a.attnum = s.attnum AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_attribute n WHERE n.attrelid = $2 AND n.attname = s.attname AND n.attnum > 0))
WHERE f.key_uuid = $1 ORDER BY a.attnum"""
SHOWN = """
SELECT a.attname AS name, t.typnamespace = 'envelope_search'::regnamespace AS is_search
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
PLAINS = """
SELECT plain_column, attname FROM envelope_private.protected_column WHERE key_uuid = $1 AND plain_column IS NOT NULL"""
RENAME_BESIDE = """
UPDATE envelope_private.adoption a SET beside = ARRAY(
    SELECT coalesce(n.new, b.name)
    FROM unnest(a.beside) WITH ORDINALITY b (name, place)
    LEFT JOIN unnest($2::name[], $3::name[]) n (old, new) ON n.old = b.name
    ORDER BY b.place)
FROM envelope_private.field f WHERE f.field_uuid = a.field_uuid AND f.key_uuid = $1"""
SHARING = """
SELECT o.base FROM envelope_private.protected_table t JOIN envelope_private.protected_table o USING (scope_key)
WHERE $1 IN (t.base, t.view) AND o.rollout IS NOT NULL"""
EQUALS = "OPERATOR(pg_catalog.=)"
CHECK_FIELDS = ("name", "expression", "validated", "enforced", "no_inherit", "comment", "runs_code")


# What is under way, and how it goes on, by the act.
GOES_ON = ("protect(online => true)", "Call protect() with online => true again: it goes on. docs/online.md")
WAYS = {
    "tokens": GOES_ON,
    "protect": GOES_ON,
    "unprotect": (
        "unprotect(online => true)",
        "Call unprotect() with online => true again: it goes on. docs/online.md",
    ),
    "adopt": ("adoption", "CALL envelope.convert(...), then CALL envelope.finish_adoption(...): docs/adopt.md"),
}


class InRollout(errors.NotConfigured):
    """Some values of a table are in the clear, and others are envelopes."""

    sqlstate = "55006"


def key_of(host: Host, oid: int) -> Row:
    """Returns the key row of a protected table, by its view or base table. Raises NotProtected."""
    found = host.catalog_rows(KEY, ["oid"], [oid])
    if not found:
        raise errors.NotProtected(
            "the table is not protected",
            hint="envelope.columns lists protected columns. Was the table restored? CALL envelope.adopt_restored(...)",
        )
    return found[0]


def refuse_scoped(key: Row, what: str) -> None:
    """Refuses an act on the one key of a table, where tenants or subjects have keys of their own."""
    if key["scope"] != "table":
        raise errors.Unsupported(
            f"{what}() is not for tables in {key['scope']} scope: there is no key for all of the table",
            hint=f"SELECT envelope.rotate('<table>', '<{key['scope']}>') gives one of them a new key."
            " CALL envelope.reencrypt('<table>') then brings its values to that key.",
        )


def refuse_protected(host: Host, oid: int) -> None:
    row = host.row(KEY, ["oid"], [oid])
    if row is not None:
        raise errors.AlreadyProtected(
            "the table is protected already",
            detail=f"view {row['view_name']}, base table {row['base_name']}",
            hint=f"Its {WAYS[row['rollout']][0]} is not at its end. {WAYS[row['rollout']][1]}."
            if row["rollout"]
            else "To protect further columns, or to take some out, use online => true: docs/online.md",
        )


def refuse_rollout(host: Host, oid: int, what: str) -> None:
    """Raises Conflict for a protected table in which some values are still in the clear."""
    row = host.row(KEY, ["oid"], [oid])
    if row is not None and row["rollout"]:
        raise InRollout(
            f"{row['view_name']} is not ready for {what}(): its {WAYS[row['rollout']][0]} is not at its end",
            hint=f"{WAYS[row['rollout']][1]} tells more.",
        )


def refuse_shared_rollout(host: Host, oid: int, what: str) -> None:
    """Does the same for a table that shares its keys with one in which some values are still in the clear."""
    for row in host.rows(SHARING, ["oid"], [oid]):
        refuse_rollout(host, row["base"], what)


def refuse_adoption(host: Host, oid: int, what: str) -> None:
    """Raises Conflict for a table in which some values are still what other software encrypted."""
    row = host.row(KEY, ["oid"], [oid])
    if row is not None and row["rollout"] == "adopt":
        refuse_rollout(host, oid, what)


def record(host: Host, table: Table, layout: Layout) -> None:
    """Records what later steps need and the server will not hold any more: row key, checks, plaintext types."""
    host.rows(
        "UPDATE envelope_private.key SET row_key = $2::name[], by_role = $3, as_caller = $4, checks = $5::jsonb"
        " WHERE base = $1::oid",
        ["oid", "text[]", "bool", "bool", "text"],
        [table.oid, list(layout.row_key), layout.by_role, layout.as_caller, checks_json(layout.checks)],
    )
    for protected in layout.protected.values():
        column = protected.column
        host.rows(
            "UPDATE envelope_private.field SET attnum = $2, attname = $3, plain_type = $4,"
            ' plain_collation = $5::regcollation, plain_storage = $6::"char" WHERE field_uuid = $1',
            ["uuid", "int2", "name", "text", "text", "text"],
            [protected.field_uuid, column.attnum, column.name, column.type, column.collation, column.storage],
        )


def checks_json(checks: Iterable[Check]) -> str:
    return json.dumps(
        [
            {**{name: getattr(check, name) for name in CHECK_FIELDS}, "columns": sorted(check.columns)}
            for check in checks
        ]
    )


def record_modes(host: Host, layout: Layout) -> None:
    """Records, as the base table has them now, whose role reads and writes, and which columns find a row."""
    host.rows(
        "UPDATE envelope_private.key SET by_role = $2, as_caller = $3, row_key = $4::name[] WHERE key_uuid = $1",
        ["uuid", "bool", "bool", "text[]"],
        [layout.key_uuid, layout.by_role, layout.as_caller, list(layout.row_key)],
    )


def lock_owners(host: Host) -> None:
    """Waits until no other transaction protects a table or changes which owners may read capabilities.

    Raises RightsInUse, because the caller holds the table meanwhile.
    """
    lent.in_turn(host, {"owners of protected tables": "SELECT envelope_private.lock_owners()"})


def allow_owner(host: Host, table: Table) -> None:
    """Lets the view's owner read its own columns' capabilities."""
    host.rows("SELECT envelope_private.allow_owner($1)", ["oid"], [table.owner_oid])


def release_owners(host: Host) -> None:
    """Takes the rights from roles that own no protected table any more, so that they can be dropped."""
    host.rows("SELECT envelope_private.release_owners()")


def layout_of(host: Host, key: Row, base: Table) -> Layout:
    """Returns the layout of a protected table, as the catalog and the base table tell it now."""
    fields = {row["attnum"]: row for row in host.catalog_rows(FIELDS, ["uuid"], [key["key_uuid"]])}
    columns = [column.holding(fields[column.attnum]) if column.attnum in fields else column for column in base.columns]
    protected = {
        column.name: _protected(column, fields[column.attnum]) for column in columns if column.attnum in fields
    }
    checks = tuple(
        Check(**{name: found[name] for name in CHECK_FIELDS}, columns=frozenset(found["columns"]))
        for found in json.loads(key["checks"])
    )
    sources = {found.field_uuid: name for name, found in protected.items()}
    clear = {found.plain for found in protected.values() if found.in_rollout}
    found = host.catalog_rows(SEARCHES, ["uuid", "oid"], [key["key_uuid"], base.oid])
    searches = _searches(found, base, sources)
    places = {row["plain_column"]: row["attname"] for row in fields.values() if row["plain_column"] is not None}
    shown = [name for _, name in _pairs(host, key, base, found, places)]
    return Layout(
        key_uuid=str(key["key_uuid"]),
        schema=base.schema,
        view_name=key["view_relname"],
        base_name=base.name,
        columns=_in_order(in_place(columns, _plains(protected)), searches, shown),
        protected=protected,
        row_key=_row_key(key, base, protected.values()),
        checks=checks,
        by_role=base.row_security,
        as_caller=base.writes_as_caller(checks),
        scope_column=key["scope_column"],
        erased=key["erased"],
        view_options=tuple(key["view_options"] or ()),
        key_is_deferrable=base.key_is_deferrable,
        searches=searches,
        hidden=tuple(column for column in columns if column.name in searches and not searches[column.name].is_filled),
        rollout=key["rollout"],
        inputs=_inputs(base, protected),
        clear_columns=tuple(column for column in base.columns if column.name in clear),
    )


def _inputs(base: Table, protected: Iterable[str]) -> dict[str, str]:
    """Returns the columns by which the upsert relation takes values, by protected column."""
    names = {column.name for column in base.columns if column.type == INPUT}
    return {name: input_name(name) for name in protected if input_name(name) in names}


def in_place(columns: Sequence[Column], plains: Mapping[str, str]) -> list[Column]:
    """Returns the columns of a base table in the order of its view.

    `plains` names the empty columns that keep the places of protected columns.
    """
    sealed = {column.name: column for column in columns if column.name in plains.values()}
    return [sealed.get(plains.get(c.name, ""), c) for c in columns if c.name not in sealed]


def _plains(protected: Mapping[str, Protected]) -> dict[str, str]:
    return {found.plain: name for name, found in protected.items() if found.plain}


def pairs(host: Host, key: Row, base: Table) -> list[tuple[str, str]]:
    """Returns each column's names in the view and in the base table, in the view's order; none if the view is gone.

    A search column may lie elsewhere in the base table. All others are in the base table's order, in which an empty
    column may keep the place of a protected one.
    """
    found = host.catalog_rows(SEARCHES, ["uuid", "oid"], [key["key_uuid"], base.oid])
    places = {row["plain_column"]: row["attname"] for row in host.catalog_rows(PLAINS, ["uuid"], [key["key_uuid"]])}
    return _pairs(host, key, base, found, places)


def _pairs(host: Host, key: Row, base: Table, found: Iterable[Row], places: Mapping[str, str]) -> list[tuple[str, str]]:
    """`found` has the search columns, and `places` the protected columns by those that keep their places."""
    names = {row["known"]: row["attname"] for row in found if row["is_filled"]}
    shown = host.catalog_rows(SHOWN, ["oid"], [key["view"]])
    plain = iter([column.name for column in in_place(base.columns, places) if column.type not in {*STORED, INPUT}])
    # Renamed in the view a moment ago.
    left = iter([names[known] for known in names.keys() - {row["name"] for row in shown}])

    def base_name(name: str, is_search: bool) -> str:
        return names.get(name) or next(left, name) if is_search else next(plain, name)

    return [(row["name"], base_name(**row)) for row in shown]


def _in_order(columns: Sequence[Column], searches: Mapping[str, SearchColumn], shown: list[str]) -> tuple[Column, ...]:
    """Puts the columns first that the view shows already, and leaves out tokens that are not filled."""
    visible = {c.name: c for c in columns if c.type not in {*STORED, INPUT} or _is_filled(searches, c.name)}
    return tuple(visible[name] for name in dict.fromkeys([*shown, *visible]) if name in visible)


def _is_filled(searches: Mapping[str, SearchColumn], name: str) -> bool:
    return name in searches and searches[name].is_filled


def _row_key(key: Row, base: Table, protected: Iterable[Protected]) -> dict[str, str]:
    """Returns the row key to which values were bound. If none is recorded, the primary key of the base table finds a
    row.
    """
    if any(field.options.bind == "row" for field in protected):
        return {name: base.primary_key.get(name, EQUALS) for name in key["row_key"]}
    return base.primary_key


def searches_of(host: Host, key_uuid: str, base: Table, sources: Mapping[str, str]) -> dict[str, SearchColumn]:
    """Returns the search columns that the base table has for fields, in the order of its columns.

    `sources` has the fields' columns by their uuids.
    """
    return _searches(host.catalog_rows(SEARCHES, ["uuid", "oid"], [key_uuid, base.oid]), base, sources)


def _searches(found: Iterable[Row], base: Table, sources: Mapping[str, str]) -> dict[str, SearchColumn]:
    rows = {row["attname"]: row for row in found}
    return {
        column.name: SearchColumn(
            name=column.name,
            source=sources[str(rows[column.name]["field_uuid"])],
            search_uuid=str(rows[column.name]["search_uuid"]),
            **{name: rows[column.name][name] for name in SEARCH_FIELDS},
        )
        for column in base.columns
        if column.name in rows and str(rows[column.name]["field_uuid"]) in sources
    }


def _protected(column: Column, field: Row) -> Protected:
    return Protected(
        column,
        str(field["field_uuid"]),
        _options(field),
        field["careful"],
        field["plain_column"],
        field["is_masked"],
        field["in_rollout"],
        tuple(field["beside"]),
    )


def _options(field: Row) -> FieldOptions:
    return FieldOptions(field["bind"], field["suite"], field["pad"], field["audit"])


def rename(
    host: Host, key_uuid: str, renamed: Mapping[str, str], row_key: list[str], scope_column: str | None, checks: str
) -> None:
    """Takes over the new names of columns that were renamed in the base table."""
    host.rows(
        "UPDATE envelope_private.field f SET attname = n.new"
        " FROM unnest($2::name[], $3::name[]) n (old, new) WHERE f.key_uuid = $1 AND f.attname = n.old",
        ["uuid", "text[]", "text[]"],
        [key_uuid, list(renamed), list(renamed.values())],
    )
    host.rows(
        "UPDATE envelope_private.search s SET attname = n.new"
        " FROM unnest($2::name[], $3::name[]) n (old, new), envelope_private.field f"
        " WHERE f.field_uuid = s.field_uuid AND f.key_uuid = $1 AND s.attname = n.old",
        ["uuid", "text[]", "text[]"],
        [key_uuid, list(renamed), list(renamed.values())],
    )
    host.rows(RENAME_BESIDE, ["uuid", "text[]", "text[]"], [key_uuid, list(renamed), list(renamed.values())])
    host.rows(
        "UPDATE envelope_private.key SET row_key = $2::name[], checks = $3::jsonb, scope_column = $4"
        " WHERE key_uuid = $1",
        ["uuid", "text[]", "text", "name"],
        [key_uuid, row_key, checks, scope_column],
    )


def forget(host: Host, key_uuid: str) -> None:
    """Makes the table plain in the catalog. Nobody needs a capability any more. Its keys stay, for decryption only."""
    host.rows(
        "DELETE FROM envelope_private.capability WHERE field_uuid IN"
        " (SELECT field_uuid FROM envelope_private.field WHERE key_uuid = $1)",
        ["uuid"],
        [key_uuid],
    )
    host.rows("SELECT envelope_private.retire_key($1)", ["uuid"], [key_uuid])
    release_owners(host)
