"""A named key from bytes, for what does not depend on where a key came from: documents, files, vectors."""

from __future__ import annotations

from uuid import UUID

from pg_envelope.envelope import HEADER_BYTES, FieldKey, key_id
from pg_envelope.errors import UnknownKey
from pg_envelope_client import NamedKey
from pg_envelope_client.sealing.layout import FieldLayout

FIELD = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
OTHER_FIELD = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


class OneKey:
    """Stands where the ring of a client stands, and holds one key. As there, a header chooses suite and padding."""

    def __init__(self, layout: FieldLayout, key_id: int, content: bytes) -> None:
        self._key_id, self._content = key_id, content
        self._active = self._of(layout.head(key_id))

    def seal(self, layout: FieldLayout, scope: str | None, content: bytes, row_key: bytes) -> bytes:
        return self._active.seal(content, row_key)

    def to_open(self, layout: FieldLayout, envelope: bytes) -> FieldKey:
        if key_id(envelope) != self._key_id:
            raise UnknownKey
        return self._of(envelope[:HEADER_BYTES])

    def _of(self, head: bytes) -> FieldKey:
        return FieldKey(head, FIELD.bytes, self._content)


def local_key(suite: int = 1, padded: bool = False, key_id: int = 7, content: bytes = bytes(32)) -> NamedKey:
    layout = FieldLayout(UUID(int=1), FIELD, "crm", suite, padded, None, (), None)
    return NamedKey(OneKey(layout, key_id, content), layout)  # type: ignore[arg-type]
