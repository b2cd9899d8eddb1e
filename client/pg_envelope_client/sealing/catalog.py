"""Reads the key catalog for a client, over a connection of its own, with the right of an ordinary role."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import psycopg

from pg_envelope import errors
from pg_envelope_client.sealing.locks import ProcessLock
from pg_envelope_client.sealing.types import utf8

FIELD = "SELECT envelope_internal.client_field(%s::pg_catalog.regclass, %s::pg_catalog.name)"
NAMED = "SELECT envelope_internal.client_named(%s::pg_catalog.text)"
SEARCH = "SELECT envelope_internal.client_search(%s::pg_catalog.regclass, %s::pg_catalog.name)"
SEALED = "SELECT envelope_internal.client_secret(%s::pg_catalog.text)"
SECRETS = "SELECT envelope_internal.client_secrets(%s::pg_catalog.text)"
STORE = (
    "SELECT envelope.store_secret(%s::pg_catalog.text, %s::pg_catalog.int4, %s::pg_catalog.bytea::envelope.ciphertext)"
)
KEY = "SELECT envelope_internal.client_key(%s::pg_catalog.uuid, %s::pg_catalog.int8, %s::pg_catalog.text)"
MESSAGES = "SELECT envelope_internal.client_messages(%s::pg_catalog.uuid, %s::pg_catalog.int8, %s::pg_catalog.int4)"
PREFIX = "pg_envelope: "

Connection = psycopg.Connection[Any]
Answer = dict[str, Any]


class Catalog:
    """Safe to share between threads. The connection is in autocommit: a count of messages must not be rolled back."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._lock = ProcessLock()
        self._connection: Connection | None = None
        self._owner = os.getpid()

    def field(self, table: str, column: str) -> Answer:
        """Returns how values of a column are sealed. `table` is a name as in SQL. Raises NotPermitted."""
        return dict(self._value(FIELD, utf8(table), utf8(column)))

    def search(self, table: str, column: str) -> Answer:
        """Returns how the tokens of a search column are made. Raises NotPermitted."""
        return dict(self._value(SEARCH, utf8(table), utf8(column)))

    def named(self, name: str) -> Answer:
        return dict(self._value(NAMED, utf8(name)))

    def secret(self, name: str) -> list[Answer]:
        """Returns the two newest versions of a secret, sealed."""
        return list(self._value(SEALED, utf8(name)))

    def secrets(self, prefix: str) -> list[str]:
        """Returns the names of the role's secrets that begin so."""
        return list(self._value(SECRETS, utf8(prefix)))

    def store_secret(self, name: str, version: int, sealed: bytes) -> None:
        """Stores the next version of a secret. Raises NotPermitted, Conflict when another one came first."""
        self._value(STORE, utf8(name), version, sealed)

    def key(self, field: str, key_id: int | None, scope: str | None) -> Answer | None:
        """Returns a row of the key catalog, of a key id or of the active key. None when the field has no such key."""
        found = self._value(KEY, field, key_id, scope)
        return None if found is None else dict(found)

    def messages(self, field: str, key_id: int, blocks: int) -> int:
        """Reserves blocks of messages (FORMAT.md section 1.4). Returns how many messages these are."""
        return int(self._value(MESSAGES, field, key_id, blocks))

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _value(self, query: str, *values: object) -> Any:
        with self._lock:
            try:
                return self._asked(query, values)
            except psycopg.Error as error:
                raise _passed(error) from None

    def _asked(self, query: str, values: tuple[object, ...]) -> Any:
        """Asks, once more on a new connection when a kept one turns out to be broken."""
        kept = self._kept()
        if kept is not None:
            try:
                return _first(kept, query, values)
            except psycopg.OperationalError:
                if not kept.closed:
                    raise
        self._connection = self._connect()
        self._connection.autocommit = True
        # A connection pooler may give each statement to another session.
        self._connection.prepare_threshold = None
        return _first(self._connection, query, values)

    def _kept(self) -> Connection | None:
        if self._owner != os.getpid():
            # The connection is the parent process's. It must not be closed from here.
            self._connection, self._owner = None, os.getpid()
        return None if self._connection is None or self._connection.closed else self._connection


def _first(connection: Connection, query: str, values: tuple[object, ...]) -> Any:
    # The query texts are the constants above.
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise errors.Internal
    return row[0] if isinstance(row, tuple) else next(iter(row.values()))


def _passed(error: psycopg.Error) -> errors.EnvelopeError:
    """Returns what the server said as the error that it stands for."""
    told = error.diag
    if told.message_primary is None:
        return errors.Unavailable("the key catalog cannot be reached", hint="Can the application reach PostgreSQL?")
    message = told.message_primary.removeprefix(PREFIX)
    kinds = [kind for kind in errors.BY_CODE.values() if (kind.sqlstate, kind.text) == (told.sqlstate, message)]
    raised = (kinds[0] if kinds else errors.EnvelopeError)(message, told.message_detail, told.message_hint)
    raised.sqlstate = told.sqlstate or raised.sqlstate
    return raised
