"""The keys of one engine: which columns it seals and opens by itself, and how that is asked for without blocking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from pg_envelope import errors
from pg_envelope_client.sealing.client import ColumnKey, KeyClient
from pg_envelope_client.sealing.column_search import ColumnSearch

KEYS = "pg_envelope_keys"
Field = tuple[str, str]
Result = TypeVar("Result")


def refuse(what: str) -> NoReturn:
    """Raises the error of a statement that cannot work. `what` holds names, and never a value."""
    raise InvalidRequestError(what)


class EngineKeys:
    """Asks the key catalog once for each column and search column. Safe to share between threads."""

    def __init__(self, client: KeyClient) -> None:
        self.client = client
        self._columns: dict[Field, ColumnKey] = {}
        self._searches: dict[Field, ColumnSearch] = {}

    def column(self, field: Field) -> ColumnKey:
        """Returns the key of a column. Raises NotPermitted, Unavailable."""
        found = self._columns.get(field)
        if found is None:
            found = self._columns[field] = self.client.field(*field)
        return found

    def search(self, place: Field) -> ColumnSearch:
        """Returns the key of a search column, by table and name. Raises NotPermitted, Unsupported, Unavailable."""
        found = self._searches.get(place)
        if found is None:
            found = self._searches[place] = self.client.search(*place)
        return found

    def forget(self) -> None:
        """Asks the key catalog again at each next use: after `rotate_search`, or when a table was protected anew."""
        self._columns.clear()
        self._searches.clear()

    def warm(self, fields: frozenset[Field]) -> None:
        """Loads active keys. What cannot be loaded now is an error of the value that needs it."""
        for field in fields:
            try:
                self.column(field).warm()
            except errors.EnvelopeError:
                continue


def keys_of(dialect: Any) -> EngineKeys:
    """Returns what `install` was given. Refuses an engine without keys."""
    found: EngineKeys | None = getattr(dialect, KEYS, None)
    if found is None:
        refuse("this engine has no keys for a column of Encrypted(...): call install(engine, keys) with a KeyClient")
    return found


def run(dialect: Any, step: Callable[[], Result]) -> Result:
    """Runs what may wait for the broker or the key catalog: in a thread, where an event loop would wait with it."""
    try:
        if dialect.is_async and in_greenlet():
            return await_only(asyncio.to_thread(step))
        return step()
    except errors.NotPermitted:
        found = getattr(dialect, KEYS, None)
        if found is not None:
            found.forget()
        raise
