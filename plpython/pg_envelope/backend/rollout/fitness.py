"""Refuses tables that protect() and unprotect() can change offline only. It looks before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.rollout.way import Way
from pg_envelope.backend.search import carried, references
from pg_envelope.backend.search.carried import Index
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas, constraint_name, ident
from pg_envelope.backend.tables import bodies, canary_rows, publications, whole
from pg_envelope.backend.tables.canonical import canonical
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.options import Scoping
from pg_envelope.backend.tables.owner import AsOwner

AFTERWARDS = "CALL envelope.set_audit(...) afterwards"
OF_SOME = (
    "Unprotect the whole table instead, with or without online => true, and protect it again without these columns."
)
FIRST = "CALL envelope.set_audit(..., 'none') first"
# The classes of the errors of a domain that refuses a value.
OF_A_DOMAIN = ("22", "23", "P0")
# The tenants and subjects of a table that have keys, none of which is active.
WITHOUT_KEYS = """
SELECT d.scope FROM envelope_private.protected_table t JOIN envelope_private.dek d ON d.key_uuid = t.scope_key
WHERE $1 IN (t.base, t.view) AND d.scope IS NOT NULL GROUP BY d.scope
HAVING NOT bool_or(d.state = 'active') AND (bool_or(d.state = 'suspended') OR bool_and(d.state = 'destroyed'))"""
# PostgreSQL 18 has a constraint for each NOT NULL. Another name than the usual one would be lost.
NAMED_NOT_NULL = """
SELECT k.conname AS name, a.attname AS column, k.convalidated FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
WHERE k.conrelid = $1 AND k.contype = 'n' AND a.attname = ANY ($2::name[])"""


def check_protect(
    host: Host,
    table: Table,
    layout: Layout,
    wanted: Mapping[str, FieldOptions],
    indexes: Sequence[Index],
    way: Way,
    scoping: Scoping,
) -> None:
    """Raises Unsupported with the list of all reasons. `indexes` are of columns in `wanted`."""
    reasons = [*_of_protect(host, table, layout, wanted), *_of_indexes(table, indexes, way)]
    reasons += _of_shared_keys(host, table, layout, scoping)
    _refuse(f"{table.sql} cannot be {way.done}", reasons, way.hint)


def _of_indexes(table: Table, indexes: Sequence[Index], way: Way) -> Iterator[str]:
    for index in indexes:
        if reason := way.misfit(table, index):
            yield f"index {index.name} {reason}"


def _of_protect(host: Host, table: Table, layout: Layout, wanted: Mapping[str, FieldOptions]) -> Iterator[str]:
    for name in wanted:
        if wanted[name].audit != "none":
            yield f"column {name} is to be audited, and values in the clear leave no event: {AFTERWARDS}"
    for column in layout.clear_columns:
        if table.column(column.name):
            yield f"the name of a column is taken: {column.name}"
        if not _takes_null(AsOwner(host, table.owner_oid), column):
            yield f"the type {column.type} does not take NULL"
    for line in bodies.differences(host, table.oid, layout):
        yield f"trigger {line}"
    for row in host.rows(NAMED_NOT_NULL, ["oid", "text[]"], [table.oid, list(wanted)]):
        if row["convalidated"] and row["name"] == constraint_name(layout.view_name, row["column"], "not_null"):
            continue
        yield f"the NOT NULL constraint {row['name']} has a name of its own, or is not validated"
    if found := publications.of(host, table.oid):
        yield f"publications send it, whose subscribers would miss its new columns: {found}"
    if host.row(whole.HIDDEN, ["oid"], [table.oid]):
        yield "row-level security with FORCE may hide rows from its owner"


def _of_shared_keys(host: Host, table: Table, layout: Layout, scoping: Scoping) -> Iterator[str]:
    """Yields how many rows could not be sealed, because the table whose keys are shared has lost or locked theirs."""
    if scoping.of is not None and (found := _without_keys(host, table, layout, scoping.of, "true")):
        yield f"the {scoping.kind}s of {found} rows have keys that are destroyed or suspended: delete the rows first"


def _without_keys(host: Host, table: Table, layout: Layout, keys_of: int, where: str) -> int:
    """Returns how many rows have tenants or subjects whose keys, those of the table `keys_of`, serve no more."""
    without = [row["scope"] for row in host.rows(WITHOUT_KEYS, ["oid"], [keys_of])]
    if not without or layout.scope_column is None:
        return 0
    text = canonical(layout.column(layout.scope_column), "t")
    rows = f"SELECT count(*) AS found FROM {table.sql} t WHERE {text} = ANY ($1) AND ({where})"
    return AsOwner(host, table.owner_oid).count(rows, ["text[]"], [without])


def _takes_null(owner: AsOwner, column: Column) -> bool:
    try:
        owner.rows(f"SELECT NULL::{column.type}")
    except Exception as error:
        if not str(getattr(error, "sqlstate", "")).startswith(OF_A_DOMAIN):
            raise
        return False
    return True


def check_unprotect(host: Host, found: Place, damaged: str, columns: Sequence[str]) -> None:
    """Raises Unsupported with the list of all reasons. The `columns` will be plain."""
    reasons = list(_of_unprotect(host, found, damaged, columns))
    if len(columns) == len(found.layout.protected):
        _refuse(f"{found.view.sql} cannot be unprotected online", reasons)
    else:
        reasons += _of_others(host, found, columns)
        _refuse(f"{commas(columns)} of {found.view.sql} cannot be unprotected online", reasons, OF_SOME)


def _of_others(host: Host, found: Place, columns: Sequence[str]) -> Iterator[str]:
    """Yields what holds columns that will be plain to others, which stay protected."""
    yield from canary_rows.obstacles(host, found.layout.key_uuid)
    staying = found.layout.protected.keys() - set(columns)
    for one in carried.recorded(host, found.layout.key_uuid):
        if one.names() & set(columns) and (others := sorted(one.names() & staying)):
            yield f"{one.name} is about {commas(others)}, too, which would stay protected"
    for search in found.layout.searches.values():
        if search.source in columns and references.is_compared(host, found.base, search):
            yield f"a foreign key compares the tokens of {search.name}: drop it first"


def _of_unprotect(host: Host, found: Place, damaged: str, columns: Sequence[str]) -> Iterator[str]:
    if damaged != "error":
        yield "values that do not open can be given up in one transaction only"
    for name, protected in ((name, found.layout.protected[name]) for name in columns):
        if protected.plain is None:
            yield f"column {name} was not protected online, so its values have no place to go to"
        elif _type(found, protected.plain) != protected.column.type:
            yield f"column {name} was adopted, and its old column has another type"
        if protected.is_audited:
            yield f"column {name} is audited, and values in the clear leave no event: {FIRST}"
        if protected.is_masked:
            yield f"column {name} has masks, and a plain column has none: SELECT envelope.unmask(...) first"
    sealed = " OR ".join(f"t.{ident(name)} IS NOT NULL" for name in columns)
    if locked := _without_keys(host, found.base, found.layout, found.base.oid, sealed):
        yield f"the values of {locked} rows are under keys that are destroyed or suspended: no value comes back"
    if not found.key["rollout"]:
        for column in found.layout.hidden:
            yield f"search column {column.name} is not filled: call add_search() or rotate_search() again, which go on"
    if host.row(whole.HIDDEN, ["oid"], [found.base.oid]):
        yield "row-level security with FORCE may hide rows from its owner"


def _type(found: Place, name: str) -> str | None:
    column = found.base.column(name)
    return column.type if column else None


def _refuse(what: str, reasons: list[str], hint: str = Way.hint) -> None:
    if reasons:
        detail = "\n".join(f"- {reason}" for reason in reasons)
        raise errors.Unsupported(f"{what}; nothing was changed", detail=detail, hint=hint)
