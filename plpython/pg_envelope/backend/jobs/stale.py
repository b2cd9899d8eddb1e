"""Tells which values are not under the newest key, which of them can be brought there, and which are left."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.faults import STORAGE_DAMAGED
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.faulty import fault
from pg_envelope.backend.sqltext import ident, literal
from pg_envelope.backend.tables.generate import Layout, resealed, stored
from pg_envelope.records import dataclass

HEADERS = """
SELECT f.field_uuid, substr(c.seal, 17) AS header FROM envelope_private.field f
JOIN envelope_private.capability c USING (field_uuid) WHERE f.key_uuid = $1"""
# A canary has a key of its own for good.
STAY = """
SELECT encode(substr(int8send(fk.key_id), 5), 'hex') AS key_id
FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
WHERE fk.field_uuid = $1 AND ('destroyed' IN (fk.state, d.state) OR d.version < 0)"""


@dataclass(frozen=True)
class Stale:
    """SQL conditions on a row of `t`, by column: the row has an envelope that is not under the newest key.

    `careful` is for a table with bytes that the server cannot read. Without it, such bytes stop a statement.
    """

    layout: Layout
    by_column: dict[str, str]
    careful: bool

    @property
    def any(self) -> str:
        """The condition for a row with such a value. It compares headers only."""
        return f"({' OR '.join(self.by_column.values())})"

    @property
    def movable(self) -> str:
        """The condition for a row with such a value that opens. It opens the old values only."""
        opens = (
            f"CASE WHEN {old} THEN {fault(self.layout, name)} IS NULL ELSE false END"
            for name, old in self.by_column.items()
        )
        return f"({' OR '.join(opens)})"

    @property
    def values(self) -> dict[str, str]:
        """The expression for each column; NULL keeps the stored value."""
        return {name: resealed(self.layout, name, self.careful) for name in self.layout.protected}

    @property
    def emptied(self) -> dict[str, str]:
        return {}

    def left(self, name: str) -> str:
        """The expression for why the value of a column cannot be brought to the newest key.

        It is NULL for a value that has the newest key, or can be brought there.
        """
        left = f"WHEN {self.by_column[name]} THEN {fault(self.layout, name)}"
        return f"CASE {self._unreadable(name)} {left} END"

    def _unreadable(self, name: str) -> str:
        if not self.careful:
            return ""
        return f"WHEN t.{ident(name)} IS NOT NULL AND {stored(name, True)} IS NULL THEN {literal(STORAGE_DAMAGED)}"


def stale(host: Host, layout: Layout, key: Row, careful: bool) -> Stale:
    """Makes the conditions from the catalog as it is now."""
    if key["scope"] != "table":
        # Each tenant or subject has a newest key of its own. A value under a destroyed or suspended key stays under it.
        waits = {name: f"envelope.is_stale({stored(name, careful)})" for name in layout.protected}
        return Stale(layout, waits, careful)
    headers = {row["field_uuid"]: row["header"].hex() for row in host.rows(HEADERS, ["uuid"], [key["key_uuid"]])}
    if not headers:
        # An unprotect() that has just ended dropped the field.
        raise errors.NotProtected
    return Stale(
        layout,
        {
            name: _under_an_old_key(host, stored(name, careful), protected.field_uuid, headers[protected.field_uuid])
            for name, protected in layout.protected.items()
        },
        careful,
    )


def _under_an_old_key(host: Host, value: str, field_uuid: str, newest: str) -> str:
    """Leaves erased values as they are: nobody can read them, so nobody can write them anew. Leaves canaries, too."""
    stay = host.rows(STAY, ["uuid"], [field_uuid])
    others = "".join(f" AND substr({value}, 3, 4) <> {_bytes(row['key_id'])}" for row in stay)
    return f"substr({value}, 1, 6) <> {_bytes(newest)}{others}"


def _bytes(hexadecimal: str) -> str:
    return literal(f"\\x{hexadecimal}")
