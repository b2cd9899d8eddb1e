"""Opens what other software encrypted, for the views, triggers and jobs of columns that are being adopted.

The right is that of the column, and never EXECUTE of a function: a capability, or the role's right to the field.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend import hot
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.guard import Guard, text
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.loader import Loader, same
from pg_envelope.backend.session_keys import CAPABILITY_BYTES, SessionKeys
from pg_envelope.backend.values import Values
from pg_envelope.envelope import HEADER_BYTES
from pg_envelope.foreign.apart import with_parts
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.presets import reader_of
from pg_envelope.foreign.reader import ForeignReader, Opener, Value
from pg_envelope.typed import NamedTuple, TypeVar

# The capabilities are compared in Python and never sent as parameters, because parameters can reach logs.
FIND = """
SELECT c.capability, a.format, l.sealed, u.capability AS legacy, t.typname = 'bytea' AS is_bytes
FROM envelope_private.adoption a JOIN envelope_private.capability c USING (field_uuid)
JOIN envelope_private.field o USING (field_uuid)
JOIN pg_catalog.pg_type t ON t.oid = envelope_private.base_type(o.plain_type::regtype)
JOIN envelope_private.legacy_key l ON l.key_uuid = a.legacy_key
JOIN envelope_private.field f ON f.key_uuid = l.key_uuid
JOIN envelope_private.capability u ON u.field_uuid = f.field_uuid"""
CONTEXT = b"legacy key"
Content = TypeVar("Content", str, bytes)
MOST_READERS = 16
TWICE = "the value is encrypted already, and the legacy key of this column does not open it"
TWICE_HINT = (
    "The column is being adopted, so write values in the clear. Did the application encrypt it with another key?"
    " docs/adopt.md tells more."
)


class LegacyColumn(NamedTuple):
    """A column's reader, for so long as its legacy key may be used. `open` is reader.sure, for backend/hot.py."""

    open: Opener
    reader: ForeignReader
    is_bytes: bool
    until: float
    epoch: bytes


class EncryptedAlready(errors.BadInput):
    text = TWICE
    default_hint = TWICE_HINT


class Legacy:
    """One attribute per SQL function. A value is a text or a bytea, as the column of the base table has it."""

    def __init__(
        self, host: Host, guard: Guard, values: Values, loader: Loader, keys: SessionKeys, epoch: Epoch
    ) -> None:
        self._host, self._values, self._loader = host, values, loader
        self._key, self._epoch = keys.get, epoch.current
        self._columns: dict[bytes, LegacyColumn] = {}
        self._readers: dict[tuple[str, bytes], ForeignReader] = {}
        text_by_right, content_by_right = self._by_right(self._text), self._by_right(self._open)
        self.text = hot.legacy_text(self._columns, epoch, guard.plain(self._text))
        self.content = hot.legacy_bytea(self._columns, epoch, guard.plain(self._open))
        self.text_as_role = hot.legacy_as_role(values.right, self.text, guard.plain(text_by_right))
        self.content_as_role = hot.legacy_as_role(values.right, self.content, guard.plain(content_by_right))
        self.opens = guard.plain(self._opens)
        self.adopted = guard.plain(self.unwrapped)
        self.adopted_text = guard.plain(self._adopted_text)

    def _by_right(
        self, call: Callable[[Value | None, bytes | None], Content | None]
    ) -> Callable[[Value | None, str | None], Content | None]:
        return lambda value, field: call(value, self._values.right("read", field).capability)

    def _open(self, value: Value | None, capability: bytes | None) -> bytes | None:
        """Raises InvalidEnvelope, or returns None where the calling UPDATE replaces the value."""
        if value is None:
            return None
        column = self._column(capability)
        try:
            return column.reader.open(value)
        except errors.InvalidEnvelope:
            self._values.no_value(capability)
            return None

    def _text(self, value: Value | None, capability: bytes | None) -> str | None:
        content = self._open(value, capability)
        try:
            return None if content is None else text(content)
        except (UnicodeError, errors.InvalidEnvelope):
            self._values.no_value(capability)
            return None

    def _opens(self, value: Value | None, field: str | None) -> bool:
        if value is None:
            return True
        column = self._column(self._values.right("read", field).capability)
        try:
            content = column.reader.open(value)
            return column.is_bytes or text(content) is not None
        except (UnicodeError, errors.InvalidEnvelope):
            return False

    def _adopted_text(self, value: str | None, seal: bytes | None) -> str | None:
        if value is None:
            return None
        content = self.unwrapped(value, seal)
        try:
            return None if content is None else text(content)
        except (UnicodeError, errors.InvalidEnvelope):
            raise EncryptedAlready from None

    def unwrapped(self, value: Value | None, seal: bytes | None) -> bytes | None:
        """Returns what is to be encrypted: the value, or what an application has encrypted to it.

        Raises EncryptedAlready for a value that no usual text looks like, and that the legacy key does not open.
        """
        if value is None:
            return None
        reader = self._column(seal and seal[:CAPABILITY_BYTES]).reader
        if not reader.fits(value):
            return reader.own(value)
        try:
            return reader.open(value)
        except errors.InvalidEnvelope:
            if reader.is_marked:
                raise EncryptedAlready from None
        return reader.own(value)

    def written(self, content: bytes | None, parts: str | None, seal: bytes | None) -> bytes | None:
        """Returns unwrapped() of a value whose parts in other columns come apart."""
        whole = content if content is None or parts is None else with_parts(content, parts)
        return self.unwrapped(whole, seal)

    def _column(self, capability: bytes | None) -> LegacyColumn:
        if capability is None:
            raise errors.NotPermitted
        found = self._columns.get(capability)
        if found is None or found.epoch != self._epoch() or found.until < monotonic():
            found = self._columns[capability] = self._load(capability)
        return found

    def _load(self, capability: bytes) -> LegacyColumn:
        row = self._loader.as_owner(lambda: self._row(capability))
        key = self._key(row["legacy"] + row["sealed"][:HEADER_BYTES])
        content = key.open(row["sealed"], CONTEXT)
        if content is None:
            raise errors.KeyDestroyed
        reader = self._reader(row["format"], content)
        return LegacyColumn(reader.sure, reader, row["is_bytes"], key.expires, key.epoch)

    def _reader(self, form: str, content: bytes) -> ForeignReader:
        """Keeps a reader while the column is asked for anew. Some formats take 50 ms to derive their keys."""
        reader = self._readers.get((form, content))
        if reader is None:
            if len(self._readers) >= MOST_READERS:
                self._readers.clear()
            reader = self._readers[form, content] = reader_of(layout_of(form), LegacyKey.of_stored(content))
        return reader

    def _row(self, capability: bytes) -> Row:
        for row in self._host.rows(FIND):
            if same(row["capability"], capability):
                return row
        raise errors.NotPermitted


def layout_of(form: str) -> str | dict[str, object]:
    """Returns the name of a layout, or its specification. Raises BadInput."""
    if not form.lstrip().startswith("{"):
        return form
    try:
        found: dict[str, object] = json.loads(form)
    except ValueError:
        raise errors.BadInput("the specification is no JSON object", hint="docs/adopt.md describes it.") from None
    return found
