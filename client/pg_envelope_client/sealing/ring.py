"""Holds the field keys of one client, for as long as they may be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from pg_envelope import envelope as envelopes
from pg_envelope import errors
from pg_envelope.envelope import HEADER_BYTES, FieldKey
from pg_envelope.tokens import TokenKey
from pg_envelope_client.sealing.broker import Broker, Derived
from pg_envelope_client.sealing.catalog import Catalog
from pg_envelope_client.sealing.layout import FieldLayout
from pg_envelope_client.sealing.locks import ProcessLock
from pg_envelope_client.sealing.search_layout import SearchLayout

MOST_KEYS = 10_000
MOST_BLOCKS = 64
# While the key catalog does not answer, a client goes on with the key that was active for so long.
ACTIVE_SECONDS = 60.0
ERASED_SECONDS = 300.0
REPLACED_HINT = (
    "The grant was taken back, or rotate_search() made another key: envelope.grant_client_search(...) again, and its"
    " uuid at the broker's door. Then ask the client for the search column again."
)


class ErasedKey(NamedTuple):
    """Stands for a destroyed key whose values read as NULL: those of `scope`, or of the whole table."""

    scope: str | None
    expires: float


class ActiveKey(NamedTuple):
    """Was active when the key catalog was last asked. It is asked again at `check_at`, and must answer by `until`."""

    key: FieldKey
    check_at: float
    until: float


class ActiveSearch(NamedTuple):
    key_id: int
    key: TokenKey
    check_at: float
    until: float


Active = TypeVar("Active", ActiveKey, ActiveSearch)


class KeyRing:
    """Safe to share between threads. A forked process begins with an empty ring."""

    def __init__(self, catalog: Catalog, broker: Broker, check_seconds: float) -> None:
        self._catalog, self._broker, self._check_seconds = catalog, broker, check_seconds
        self._lock = ProcessLock()
        self._epoch: int | None = None
        self._check_at = 0.0
        self._forgotten = 0
        self._keys: dict[tuple[object, bytes], FieldKey | ErasedKey] = {}
        self._active: dict[tuple[object, str | None], ActiveKey] = {}
        self._search: dict[object, ActiveSearch] = {}

    def seal(self, layout: FieldLayout, scope: str | None, content: bytes, row_key: bytes) -> bytes:
        """Returns a new envelope under the active key. Raises KeySuspended, KeyDestroyed, NotPermitted, Unavailable."""
        # One thread at a time: a key counts its messages.
        with self._lock:
            return self._to_seal(layout, scope).seal(content, row_key)

    def to_open(self, layout: FieldLayout, envelope: bytes) -> FieldKey | ErasedKey:
        """Returns the key that a header names. Raises InvalidEnvelope, KeySuspended, KeyDestroyed, ..."""
        self._look()
        key_id = envelopes.key_id(envelope)
        head = envelope[:HEADER_BYTES]
        found = self._keys.get((layout.field, head))
        if found is None or found.expires <= monotonic():
            with self._lock:
                found = self._load(layout, head, key_id)
        return found

    def to_search(self, layout: SearchLayout) -> ActiveSearch:
        """Returns the active key of a search column. Raises NotPermitted, KeySuspended, Unavailable."""
        self._look()
        found = self._search.get(layout.field)
        if found is None or min(found.check_at, found.key.expires) <= monotonic():
            with self._lock:
                found = self._checked(self._search, layout.field, lambda: self._load_search(layout))
        return found

    def warm(self, layout: FieldLayout) -> None:
        """Loads the active key of a field. In tenant and subject scope there is none for all."""
        if layout.scope_column is None:
            with self._lock:
                self._to_seal(layout, None)

    @property
    def generation(self) -> int:
        """How often keys were dropped; asks the broker first, when it is time."""
        self._look()
        return self._forgotten

    def forget(self) -> None:
        """Drops all keys, so that each next use asks the key catalog and the broker again."""
        with self._lock:
            self._keys.clear()
            self._active.clear()
            self._search.clear()
            self._forgotten += 1

    def _to_seal(self, layout: FieldLayout, scope: str | None) -> FieldKey:
        self._look()
        found = self._active.get((layout.field, scope))
        if found is None or min(found.check_at, found.key.expires) <= monotonic():
            found = self._checked(self._active, (layout.field, scope), lambda: self._load_active(layout, scope))
        return found.key

    def _checked(self, held: dict[Any, Active], place: object, load: Callable[[], Active]) -> Active:
        """Asks which key is active now: the base table refuses what is sealed under another one. Without an answer the
        last one holds until its time is over.
        """
        found = held.get(place)
        try:
            return load()
        except errors.Unavailable:
            if found is None or min(found.until, found.key.expires) <= monotonic():
                raise
            kept = held[place] = found._replace(check_at=min(found.until, self._times()[0]))
            return kept

    def _times(self) -> tuple[float, float]:
        """Returns when a key that is active now is asked for again, and when that must have been answered."""
        now = monotonic()
        return now + min(self._check_seconds, ACTIVE_SECONDS), now + ACTIVE_SECONDS

    def _load_active(self, layout: FieldLayout, scope: str | None) -> ActiveKey:
        row = self._catalog.key(str(layout.field), None, scope)
        if row is None:
            raise errors.NotConfigured("the field has no active key", hint="envelope.columns shows the active keys.")
        _refuse_unusable(layout, row)
        head = layout.head(row["key_id"])
        held = self._keys.get((layout.field, head))
        fresh = isinstance(held, FieldKey) and held.expires > monotonic()
        key = held if fresh and isinstance(held, FieldKey) else self._derived(layout, head, row)
        self._bound(self._active)
        made = self._active[layout.field, scope] = ActiveKey(key, *self._times())
        return made

    def _load_search(self, layout: SearchLayout) -> ActiveSearch:
        row = self._search_row(layout)
        _refuse_unusable(layout, row)
        held = self._search.get(layout.field)
        fresh = held is not None and held.key_id == row["key_id"] and held.key.expires > monotonic()
        key = held.key if held is not None and fresh else self._derived_search(layout, row)
        self._bound(self._search)
        made = self._search[layout.field] = ActiveSearch(row["key_id"], key, *self._times())
        return made

    def _derived_search(self, layout: SearchLayout, row: Mapping[str, Any]) -> TokenKey:
        derived = self._fetched(layout, row)
        return TokenKey(derived.key, monotonic() + derived.ttl)

    def _search_row(self, layout: SearchLayout) -> Mapping[str, Any]:
        try:
            row = self._catalog.key(str(layout.field), None, None)
        except errors.NotPermitted:
            row = None
        if row is None:
            self._search.pop(layout.field, None)
            raise errors.NotPermitted(hint=REPLACED_HINT)
        return row

    def _load(self, layout: FieldLayout, head: bytes, key_id: int) -> FieldKey | ErasedKey:
        row = self._catalog.key(str(layout.field), key_id, None)
        if row is None:
            raise errors.InvalidEnvelope
        if row["state"] == "destroyed" and row["erased"] == "null":
            if head != layout.head(key_id):
                raise errors.InvalidEnvelope
            return ErasedKey(row["scope"], monotonic() + ERASED_SECONDS)
        _refuse_unusable(layout, row)
        return self._derived(layout, head, row)

    def _derived(self, layout: FieldLayout, head: bytes, row: Mapping[str, Any]) -> FieldKey:
        derived = self._fetched(layout, row)
        expires = monotonic() + derived.ttl
        reserve = self._reserve(str(layout.field), row["key_id"])
        key = FieldKey(head, layout.field.bytes, derived.key, expires, reserve=reserve)
        if derived.ttl:
            self._bound(self._keys)
            self._keys[layout.field, head] = key
        return key

    def _fetched(self, layout: FieldLayout | SearchLayout, row: Mapping[str, Any]) -> Derived:
        derived = self._broker.derive(layout.database, row, layout.field, layout.label)
        self._moved_to(derived.epoch)
        return derived

    def _reserve(self, field: str, key_id: int) -> Callable[[], int]:
        """Returns the function that reserves messages: twice as many blocks each time, as a session of the server."""
        blocks = 1

        def reserve() -> int:
            nonlocal blocks
            try:
                found = self._catalog.messages(field, key_id, blocks)
            except errors.EnvelopeError:
                # The key may not be active any more. The next try asks which one is.
                self.forget()
                raise
            blocks = min(2 * blocks, MOST_BLOCKS)
            return found

        return reserve

    def _look(self) -> None:
        """Asks the broker now and then whether keys were revoked. Without an answer keys live for their time."""
        if self._lock.forked:
            # The parent's reservations of messages are the parent's.
            self.forget()
        if monotonic() < self._check_at:
            return
        with self._lock:
            self._check_at = monotonic() + self._check_seconds
            try:
                self._moved_to(self._broker.epoch())
            except errors.Unavailable:
                return

    def _moved_to(self, epoch: int) -> None:
        if epoch != self._epoch:
            self.forget()
            self._epoch = epoch

    def _bound(self, held: dict[Any, Any]) -> None:
        if len(held) >= MOST_KEYS:
            del held[next(iter(held))]


def _refuse_unusable(layout: FieldLayout | SearchLayout, row: Mapping[str, Any]) -> None:
    what = f"key {row['key_id']} of {layout.label}"
    if row["state"] == "suspended":
        raise errors.KeySuspended(detail=what)
    if row["state"] == "destroyed":
        raise errors.KeyDestroyed(detail=what)
