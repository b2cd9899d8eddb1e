"""Holds the key of an audited column."""

from __future__ import annotations

from pg_envelope.envelope import FieldKey


class AuditedKey:
    """Stands in the place of a field key. `field` is the column's uuid.

    It has none of the members by which backend/hot.py decrypts, so a read that has no event does not find it. Its
    methods are for code that returns no value.
    """

    __slots__ = ("epoch", "expires", "field", "key")

    def __init__(self, key: FieldKey, field: str) -> None:
        self.key, self.field = key, field
        self.epoch, self.expires = key.epoch, key.expires

    def open(self, envelope: bytes, row_key: bytes) -> bytes:
        return self.key.open(envelope, row_key)

    def seal(self, content: bytes, row_key: bytes) -> bytes:
        return self.key.seal(content, row_key)
