"""Checks, after ALTER TYPE and ALTER DOMAIN, that encrypted texts are still values of the type.

PostgreSQL looks through the columns of plain tables by itself. In a base table it sees envelopes only.
"""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.faults import DESTROYED
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.sqltext import commas, literal
from pg_envelope.backend.tables import catalog, generate, inspect, whole
from pg_envelope.backend.tables.generate import Layout, Protected
from pg_envelope.backend.tables.owner import AsOwner

LABELS = """
SELECT enumtypid::bigint AS type, array_agg(enumlabel::text) AS labels FROM pg_catalog.pg_enum GROUP BY enumtypid"""
# The errors of an envelope that does not open, because its row key has another text; of a text that is no value; of a
# domain's CHECK.
VIOLATED = "23"
NO_VALUE = ("XX001", "22", VIOLATED)


class Types:
    """Follows a command that changes types. It keeps the labels from before the command until the command's end."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._before: dict[int, set[str]] = {}

    def changing(self) -> None:
        self._before = self._labels()

    def changed(self, view: int, kind: int) -> None:
        """Checks a table that has the type. Raises Unsupported when some value could not be read any more."""
        before = self._before.get(kind)
        # A new label of an enum, the usual case, hurts no value, so the table need not be read.
        if before is None or not before <= self._labels()[kind]:
            self._read_all(view)

    def _labels(self) -> dict[int, set[str]]:
        return {row["type"]: set(row["labels"]) for row in self._host.rows(LABELS)}

    def _read_all(self, view: int) -> None:
        key = catalog.key_of(self._host, view)
        base = inspect.inspect(self._host, key["base"])
        layout = catalog.layout_of(self._host, key, base)
        whole.refuse_hidden(self._host, key, layout, "ALTER TYPE")
        # Writers wait, because they would write values of the old type. PostgreSQL does the same for a domain's new
        # CHECK.
        self._host.run(f"LOCK TABLE {layout.base} IN SHARE MODE")
        counts = commas(f"count({_value(layout, protected)})" for protected in layout.protected.values())
        try:
            AsOwner(self._host, base.owner_oid).rows(f"SELECT {counts} FROM {layout.base} t")
        except Exception as error:
            state = str(getattr(error, "sqlstate", ""))
            if not state.startswith(NO_VALUE):
                raise
            # PostgreSQL's own message would show the value.
            raise _refusal(layout, state) from None


def _refusal(layout: Layout, state: str) -> errors.EnvelopeError:
    """Returns the error, with the SQLSTATE of a plain table where a CHECK or NOT NULL of a domain is violated."""
    refusal = errors.Unsupported(
        f"values of {layout.view} could not be read any more; the type stays as it was",
        hint="Give these rows other values first. Or CALL envelope.unprotect(...), change the type, and protect"
        " the table again. CALL envelope.verify(...) says whether values did not open before.",
    )
    if state.startswith(VIOLATED):
        refusal.sqlstate = state
    return refusal


def _value(layout: Layout, protected: Protected) -> str:
    """Returns the expression that reads a value. Erased values cannot be read in any case."""
    gone = f"{faulty.fault(layout, protected.column.name)} OPERATOR(pg_catalog.=) {literal(DESTROYED)}"
    return f"CASE WHEN {gone} THEN NULL ELSE {generate.opened_as_role(layout, protected, 't')} END"
