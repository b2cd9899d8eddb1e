"""Stands in the place of a destroyed key in a table whose erased values read as NULL (`erased => 'null'`)."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.envelope import header
from pg_envelope.typed import NamedTuple

ERASED = """
SELECT d.scope, CASE f.bind WHEN 'row' THEN k.row_key ELSE '{}' END::text[] AS columns, k.scope_column, f.suite, f.pad
FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid),
    envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
WHERE f.field_uuid = $1 AND fk.key_id = $2"""


class ErasedPlace(NamedTuple):
    """The tenant or subject whose rows a destroyed key encrypted: FORMAT.md section 1.1.

    `scope` is the tenant or subject, or None for a table with one key. It is part `number` of the `parts` of a row
    key.
    """

    scope: str | None
    parts: int = 1
    number: int = 0

    def has(self, row_key: str) -> bool:
        """Tells whether a row key belongs to this tenant or subject."""
        return self.scope is None or _part(row_key, self.parts, self.number) == self.scope


class Erased:
    """Gives NULL for the values that the key can have encrypted. A value that only names the key is a bad envelope
    like any other.
    """

    __slots__ = ("_head", "_place", "_what", "epoch", "expires")

    def __init__(self, head: bytes, place: ErasedPlace, expires: float, what: str) -> None:
        """`what` names the key, for the error of a session that wants to encrypt with it."""
        self._head, self._place, self._what = head, place, what
        self.epoch = b""
        self.expires = expires

    def open(self, envelope: bytes, row_key: bytes) -> None:
        """Returns NULL in a row of the erased tenant or subject. Raises InvalidEnvelope in any other row."""
        if not (envelope.startswith(self._head) and self._place.has(row_key.decode())):
            raise errors.InvalidEnvelope

    def seal(self, content: bytes, row_key: bytes) -> bytes:  # noqa: ARG002
        raise errors.KeyDestroyed(detail=self._what)


def erased(host: Host, key: Row, expires: float) -> Erased:
    """Makes the stand-in for a destroyed key from its row of the key catalog."""
    found = host.row(ERASED, ["uuid", "int8"], [key["field_uuid"], key["key_id"]])
    if found is None:
        raise errors.Internal
    what = f"key {key['key_id']} of {key['label']}"
    return Erased(header(found["suite"], found["pad"], key["key_id"]), _place(found), expires, what)


def _place(found: Row) -> ErasedPlace:
    columns, scope_column = found["columns"], found["scope_column"]
    if scope_column is None:
        return ErasedPlace(None)
    bound = columns if scope_column in columns else [scope_column, *columns]
    return ErasedPlace(found["scope"], len(bound), bound.index(scope_column))


def _part(row_key: str, parts: int, number: int) -> str | None:
    """Returns the canonical text of one column of a row key, or None when the row key has no such part."""
    if parts == 1:
        return row_key
    for _ in range(number + 1):
        length, _, rest = row_key.partition(":")
        if not length.isdecimal():
            return None
        text, row_key = rest[: int(length)], rest[int(length) :]
    return text
