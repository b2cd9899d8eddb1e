"""Finds the values that do not open, by SQL, and keeps the list of them that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from pg_envelope.backend.faults import WRONG_TOKEN
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import generate
from pg_envelope.backend.tables.canonical import canonical
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.generate.expressions import SAME, either_as_role
from pg_envelope.backend.tables.generate.search import of_value_as_role
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.typed import TypeVar

Result = TypeVar("Result")
# The classes of the server's errors for bytes that it cannot read, and for a text that the type, or the CHECK of a
# domain, refuses.
OF_A_VALUE = ("XX001", "XX002", "22", "23", "P0")
# The errors of a value whose key is destroyed, suspended or lost. All values have them while there are no keys at all.
OF_A_KEY = ("55000", "42704", "58000")
# The list has so many bad values at most. All of them are counted.
MOST_LISTED = 10_000
FORGET = """
DELETE FROM envelope_private.fault f USING envelope_private.field c
WHERE c.field_uuid = f.field_uuid AND c.key_uuid = $1 AND f.found_by = $2"""
KEEP = """
INSERT INTO envelope_private.fault (field_uuid, row_key, key_id, reason, found_by)
SELECT n.field_uuid, n.row_key, n.key_id, n.reason, $1
FROM unnest($2::uuid[], $3::jsonb[], $4::bigint[], $5::text[]) AS n (field_uuid, row_key, key_id, reason)
WHERE NOT EXISTS (
    SELECT FROM envelope_private.fault f
    WHERE f.field_uuid = n.field_uuid AND f.row_key = n.row_key AND f.found_by = $1)
RETURNING reason"""
KEEP_TYPES = ["text", "uuid[]", "text[]", "int8[]", "text[]"]


def despite(act: Callable[[bool], Result]) -> Result:
    """Returns what `act` gives for False. Where one value stops it, returns what `act` gives for True.

    For True, `act` opens value by value.
    """
    try:
        return act(False)
    except Exception as error:
        if not str(getattr(error, "sqlstate", "")).startswith(OF_A_VALUE):
            raise
    return act(True)


def fault(layout: Layout, name: str, source: str = "t", *, careful: bool = False) -> str:
    """Returns an SQL expression that tells why the envelope in a column of `source` does not open. It gives NULL for
    one that opens.

    It is for the table's owner. `careful`: it also tells why an envelope that opens gives no value, and the server
    raises no error for bytes that it cannot read.
    """
    protected = layout.protected[name]
    bound = generate.row_key(layout, protected, source)
    asked = f"{source}.{ident(name)}, {literal(protected.field_uuid)}::uuid, {bound}"
    if careful:
        return f"envelope_internal.fault_carefully({asked}, {literal(generate.reads_as_role(layout, protected))})"
    return f"envelope_internal.fault_as_role({asked})"


def faults(layout: Layout, careful: bool) -> dict[str, str]:
    """Returns the expressions of `fault`, by column. Without `careful`, the query fails at an envelope that opens and
    gives no value.
    """
    if careful:
        return {name: fault(layout, name, careful=True) for name in layout.protected}
    return {name: _read(layout, name) for name in layout.protected}


def _faults_and_tokens(layout: Layout, careful: bool) -> dict[str, str]:
    """Also finds values that open, and whose tokens are missing or those of another value."""
    return {name: _or_wrong_token(layout, name, reason) for name, reason in faults(layout, careful).items()}


def _or_wrong_token(layout: Layout, name: str, reason: str) -> str:
    if not layout.searches_of(name):
        return reason
    return f"coalesce({reason}, CASE WHEN {_wrong_token(layout, name)} THEN {literal(WRONG_TOKEN)} END)"


def _wrong_token(layout: Layout, name: str) -> str:
    """Returns a condition for a row of `t` whose value opens."""
    searches = layout.searches_of(name)
    stored = generate.record(f"t.{ident(search.name)}" for search in searches)
    protected = layout.protected[name]
    value = f"({either_as_role(layout, protected, 't')})"
    return f"NOT ({stored} {SAME} {generate.record(of_value_as_role(layout, search, value) for search in searches)})"


def _read(layout: Layout, name: str) -> str:
    return f"coalesce({fault(layout, name)}, CASE WHEN ({_value(layout, name)}) IS NULL THEN NULL END)"


def _value(layout: Layout, name: str) -> str:
    return generate.opened_as_role(layout, layout.protected[name], "t")


def listing(
    layout: Layout,
    reasons: Mapping[str, str],
    where: str = "true",
    *,
    relation: str | None = None,
    careful: bool = False,
) -> str:
    """Returns a query for rows of name, reason, key_id, row_key. `reasons` holds an expression for each column; NULL is
    no fault. `relation` is the base table, or one of its partitions.
    """
    items = commas(f"({literal(name)}, {generate.stored(name, careful)}, {reason})" for name, reason in reasons.items())
    return (
        f"SELECT f.name, f.reason, {key_id('f.value')} AS key_id, {_row_key(layout)} AS row_key"
        f" FROM {relation or layout.base} t CROSS JOIN LATERAL (VALUES {items}) AS f (name, value, reason)"
        f" WHERE {where} AND f.reason IS NOT NULL"
    )


def found(owner: AsOwner, layout: Layout, relation: str, where: str) -> list[Row]:
    """Returns the values that do not open, or give no value, in the rows of a relation that a condition finds."""
    if _all_read(owner, layout, relation, where):
        return []

    def listed(careful: bool) -> list[Row]:
        reasons = _faults_and_tokens(layout, careful)
        return owner.rows(listing(layout, reasons, where, relation=relation, careful=careful))

    return despite(listed)


def _all_read(owner: AsOwner, layout: Layout, relation: str, where: str) -> bool:
    """Tells whether all values open. In this usual case each value is decrypted once. An erased value that reads as
    NULL counts as bad.
    """
    values = [(ident(name), _value(layout, name)) for name in layout.protected]
    missing = " + ".join(f"count(t.{name}) - count({value})" for name, value in values)
    searched = [name for name in layout.protected if layout.searches_of(name)]
    missing += "".join(f" + count(*) FILTER (WHERE {_wrong_token(layout, name)})" for name in searched)
    try:
        return not owner.count(f"SELECT {missing} AS found FROM {relation} t WHERE {where}")
    except Exception as error:
        if not str(getattr(error, "sqlstate", "")).startswith((*OF_A_VALUE, *OF_A_KEY)):
            raise
        return False


def key_id(value: str) -> str:
    """Returns an SQL expression for a header's key id in hexadecimal: 0 for a value that is too short or cannot be
    read.
    """
    return f"'0' || coalesce(encode(substr({value}, 3, 4), 'hex'), '')"


def _row_key(layout: Layout) -> str:
    """Returns an SQL expression that tells how to find the row: the primary key's texts by column, or else the row's
    ctid.
    """
    columns = [(name, canonical(layout.column(name), "t")) for name in layout.row_key]
    pairs = commas(f"{literal(name)}, {text}" for name, text in columns or [("ctid", "t.ctid::text")])
    return f"jsonb_build_object({pairs})::text"


def forget(host: Host, key: Row, found_by: str) -> None:
    host.rows(FORGET, ["uuid", "text"], [key["key_uuid"], found_by])


def keep(host: Host, layout: Layout, found_by: str, found: list[Row]) -> Counter[str]:
    """Adds what `listing` found to the list, unless this kind of job has listed it. Returns how many values are new, by
    reason.
    """
    if not found:
        return Counter()
    columns = [
        [layout.protected[row["name"]].field_uuid for row in found],
        [row["row_key"] for row in found],
        [int(row["key_id"], 16) for row in found],
        [row["reason"] for row in found],
    ]
    return Counter(row["reason"] for row in host.rows(KEEP, KEEP_TYPES, [found_by, *columns]))
