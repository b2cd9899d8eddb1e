"""Rehearses the change of a relation with empty stand-ins, and finds each dependent that would not come back.

PostgreSQL itself tells the reasons, so none can be forgotten. Nothing is rewritten, and all of it is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pg_envelope.backend.host import NAME, Host, Undone
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import generate
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.inspect import Column, Table

ASIDE = "pg_envelope_aside"
# PostgreSQL looks whether a function's statements could be carried out. No row ever comes to this trigger.
WRITABLE = (
    "CREATE TRIGGER rehearsal INSTEAD OF INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW"
    " EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()"
)
# What the server's message does not say to a person who looks at a view.
REASONS = {
    "42803": "a view has no primary key to group by: name every column in GROUP BY",
    "42P13": "it names each column of the row type, which gets search columns: let it return the whole row, as in"
    " SELECT t FROM t",
}
INTERRUPTED = "57"


def obstacles(host: Host, relation: Table, columns: Iterable[Column], dependents: Sequence[Dependent]) -> list[str]:
    """Returns a line for each dependent that a view with these columns, under the relation's name, does not serve."""
    found: list[str] = []
    if not dependents:
        return found
    try:
        with host.subtransaction():
            found += _rehearsed(host, relation, columns, dependents)
            raise Undone
    except Undone:
        return found


def _rehearsed(
    host: Host, relation: Table, columns: Iterable[Column], dependents: Sequence[Dependent]
) -> Iterator[str]:
    waiting = []
    for dependent in reversed(dependents):
        reason = _reason(host, dependent, dependent.away)
        if reason is None:
            waiting.append(dependent)
        else:
            yield reason
    kind = "VIEW" if relation.kind == "v" else "TABLE"
    host.run(f"ALTER {kind} {relation.sql} RENAME TO {ident(ASIDE)}")
    host.run(generate.stub(relation.sql, columns))
    host.run(f"ALTER VIEW {relation.sql} OWNER TO {ident(relation.owner)}")
    host.run(WRITABLE.format(relation.sql))
    reasons = [_reason(host, dependent, dependent.back) for dependent in reversed(waiting)]
    yield from filter(None, reasons)


def _reason(host: Host, dependent: Dependent, act: Callable[[Host], None]) -> str | None:
    """Returns what keeps a dependent from an act, or None."""
    try:
        with host.subtransaction():
            act(host)
    except Exception as error:
        state = str(getattr(error, "sqlstate", INTERRUPTED))
        if state.startswith(INTERRUPTED):
            raise
        return f"{dependent.what}: {REASONS.get(state) or str(error).removeprefix(f'{NAME}: ')}"
    return None
