"""The public face: a client of keys, and the columns and named keys that it seals and opens values for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

import psycopg

from pg_envelope import errors
from pg_envelope_client.sealing import types
from pg_envelope_client.sealing.broker import Broker
from pg_envelope_client.sealing.catalog import Catalog, Connection
from pg_envelope_client.sealing.column_search import ColumnSearch
from pg_envelope_client.sealing.layout import FieldLayout, RowKey, joined
from pg_envelope_client.sealing.ring import ErasedKey, KeyRing
from pg_envelope_client.sealing.search_layout import SearchLayout

CHECK_SECONDS = 5.0


class KeyClient:
    """Seals and opens values in the application, as the server does. Safe to share between threads and after a fork.

    `database` is a connection string of libpq (empty: its environment), or a function that returns a new connection of
    psycopg. The client keeps this connection for itself. Its role needs `envelope.grant_client`. Every `check_seconds`
    the client asks the broker whether keys were revoked, and the key catalog which ones are active.
    """

    def __init__(
        self, broker: Broker, database: str | Callable[[], Connection] = "", *, check_seconds: float = CHECK_SECONDS
    ) -> None:
        connect = database if callable(database) else lambda: psycopg.connect(database)
        self._broker, self._catalog = broker, Catalog(connect)
        self._ring = KeyRing(self._catalog, broker, check_seconds)

    def field(self, table: str, column: str) -> ColumnKey:
        """Returns the key of a protected column; `table` is written as in SQL. Raises NotPermitted, Unsupported."""
        return ColumnKey(self._ring, FieldLayout.read(self._catalog.field(table, column)))

    def search(self, table: str, search_column: str) -> ColumnSearch:
        """Returns the key of a search column, such as `email_search`. Raises NotPermitted, Unsupported."""
        return ColumnSearch(self._ring, SearchLayout.read(self._catalog.search(table, search_column)))

    def named(self, name: str) -> NamedKey:
        """Returns a named key. Raises NotPermitted."""
        return NamedKey(self._ring, FieldLayout.read(self._catalog.named(name)))

    def secret_versions(self, name: str) -> list[tuple[int, bytes, float]]:
        """Returns the two newest versions of a secret, the newest first: number, envelope, age in seconds."""
        return [(row["version"], bytes.fromhex(row["sealed"]), row["age"]) for row in self._catalog.secret(name)]

    def secret_names(self, prefix: str) -> list[str]:
        """Returns the names of the role's secrets that begin so."""
        return self._catalog.secrets(prefix)

    def store_secret(self, name: str, version: int, sealed: bytes) -> None:
        """Stores the next version of a secret. Raises NotPermitted, Conflict when another one came first."""
        self._catalog.store_secret(name, version, sealed)

    @property
    def generation(self) -> int:
        """A number that changes when keys are dropped. What was opened under an earlier one must be opened again."""
        return self._ring.generation

    async def warm(self, *keys: ColumnKey | NamedKey | ColumnSearch) -> None:
        """Loads the active keys without blocking the event loop, so that sealing need not wait for them."""
        await asyncio.gather(*(asyncio.to_thread(key.warm) for key in keys))

    def refresh(self) -> None:
        """Drops all keys. Call it when the server says that an envelope is under a key that is not active."""
        self._ring.forget()

    def close(self) -> None:
        """Drops all keys, and closes the connections."""
        self._ring.forget()
        self._catalog.close()
        self._broker.close()

    def __enter__(self) -> KeyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Key:
    """What a column and a named key have in common."""

    def __init__(self, ring: KeyRing, layout: FieldLayout) -> None:
        self._ring, self._layout = ring, layout

    def warm(self) -> None:
        """Loads the active key, if there is one for all rows."""
        self._ring.warm(self._layout)

    def _opened(self, envelope: bytes, row_key: bytes, scope: str | None) -> bytes | None:
        key = self._ring.to_open(self._layout, envelope)
        if not isinstance(key, ErasedKey):
            return key.open(envelope, row_key)
        if key.scope is not None and key.scope != scope:
            raise errors.InvalidEnvelope
        return None


class ColumnKey(_Key):
    """Seals and opens the values of one protected column. None stays None.

    `row_key` is the value of the primary key; with several columns a tuple in the key's order, or a dict by column. In
    tenant and subject scope the scope column comes first, unless the primary key has it.
    """

    def __init__(self, ring: KeyRing, layout: FieldLayout) -> None:
        super().__init__(ring, layout)
        self._codec = types.codec(layout.type)
        self._is_bytes = layout.type == types.BYTES

    @property
    def row_key(self) -> tuple[str, ...]:
        """The names of the columns that values are bound to, in order."""
        return tuple(name for name, _ in self._layout.row_key)

    def seal(self, value: object, row_key: RowKey = None) -> bytes | None:
        """Returns an envelope for the base table. Raises BadInput for a value or row key that does not fit."""
        if value is None:
            return None
        content = types.content(value) if self._is_bytes else types.encoded(self._codec.write(value))
        texts = self._layout.texts(row_key)
        return self._ring.seal(self._layout, self._layout.scope(texts), content, joined(texts))

    def open(self, envelope: bytes | None, row_key: RowKey = None) -> Any:
        """Returns the value of an envelope of the base table. Raises InvalidEnvelope, KeySuspended, KeyDestroyed."""
        if envelope is None:
            return None
        return self.open_bound(envelope, self._layout.texts(row_key))

    def open_bound(self, envelope: bytes, texts: list[str]) -> Any:
        """Returns the value of an envelope whose row key the server wrote, as canonical texts. Raises as `open`."""
        if len(texts) != len(self.row_key):
            raise errors.InvalidEnvelope
        content = self._opened(_bytes(envelope), joined(texts), self._layout.scope(texts))
        if content is None or self._is_bytes:
            return content
        return self._codec.read(_decoded(content))


class NamedKey(_Key):
    """Seals and opens values of the application's own, as envelope.encrypt and envelope.decrypt do. None stays None."""

    def seal(self, value: str | bytes | None, context: str = "") -> bytes | None:
        """Returns an envelope that opens with the same context only."""
        if value is None:
            return None
        content = types.encoded(types.text(value)) if isinstance(value, str) else types.content(value)
        return self._ring.seal(self._layout, None, content, types.encoded(types.text(context)))

    def open(self, envelope: bytes | None, context: str = "") -> str | None:
        """Returns a text. Raises InvalidEnvelope, also for content that is no text."""
        content = self.open_bytes(envelope, context)
        return None if content is None else _decoded(content)

    def open_bytes(self, envelope: bytes | None, context: str = "") -> bytes | None:
        """Returns the content as it is."""
        if envelope is None:
            return None
        return self._opened(_bytes(envelope), types.encoded(types.text(context)), None)


def _bytes(envelope: object) -> bytes:
    """Python makes zeros of a number, as many as it says."""
    if not isinstance(envelope, bytes | bytearray | memoryview):
        raise errors.InvalidEnvelope
    return bytes(envelope)


def _decoded(content: bytes) -> str:
    """Raises InvalidEnvelope for content that is no text: FORMAT.md section 1.2."""
    if b"\0" in content:
        raise errors.InvalidEnvelope
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise errors.InvalidEnvelope from None
