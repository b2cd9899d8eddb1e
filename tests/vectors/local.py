"""A named key from bytes, for what does not depend on where a key came from: documents, files, vectors."""

from __future__ import annotations

from uuid import UUID

from pg_envelope.envelope import FieldKey
from pg_envelope_client import NamedKey
from pg_envelope_client.sealing.layout import FieldLayout

FIELD = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


class OneKey:
    """Stands where the ring of a client stands, and holds one key."""

    def __init__(self, layout: FieldLayout, key: FieldKey) -> None:
        self.layout, self._key = layout, key

    def seal(self, layout: FieldLayout, scope: str | None, content: bytes, row_key: bytes) -> bytes:
        return self._key.seal(content, row_key)

    def to_open(self, layout: FieldLayout, envelope: bytes) -> FieldKey:
        return self._key


def local_key(suite: int = 1, padded: bool = False, key_id: int = 7, content: bytes = bytes(32)) -> NamedKey:
    layout = FieldLayout(UUID(int=1), FIELD, "crm", suite, padded, None, (), None)
    return NamedKey(OneKey(layout, FieldKey(layout.head(key_id), FIELD.bytes, content)), layout)  # type: ignore[arg-type]
