"""Finds the seal of the active key of a tenant or subject. Every write in tenant or subject scope begins with that."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.authority import MAX_AGE_SECONDS
from pg_envelope.backend.budget import Budget
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import STALE_HINT, same
from pg_envelope.backend.server import Moment, catalog_changes, is_in_block, moment
from pg_envelope.backend.session_keys import CAPABILITY_BYTES
from pg_envelope.suites import suite_of
from pg_envelope.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pg_envelope.backend.scope_keys import ScopeKeys

# capability | header with key id 0 | field uuid
SUITE_AT = 17
KEY_ID_AT = 18
UUID_AT = 22
TEMPLATE_BYTES = 38
MOST_SEALS = 10_000
FIELD = """
SELECT c.capability, coalesce(k.scope_of, k.key_uuid) AS owner,
    coalesce(k.view::text, k.base::text) || '.' || f.attname AS label
FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid)
JOIN envelope_private.capability c USING (field_uuid)
WHERE f.field_uuid = $1 AND k.scope <> 'table'"""


class Deks(NamedTuple):
    """The key that owns the DEKs of a column's tenants or subjects, and the column, for the audit log.

    `until` (monotonic seconds) is when the session looks again.
    """

    owner: str
    label: str
    until: float


class Scopes:
    """Remembers seals for the same statement, and owners of DEKs until the key catalog changes. It remembers both for a
    second at most.

    It remembers seals no longer than the subtransaction, because a rollback removes the keys that were made in it.
    """

    def __init__(self, host: Host, link: Link, made: Callable[[int], None], budget: Budget) -> None:
        """`made` hears of the id of each key that is made here."""
        self._host, self._link, self._made, self._budget = host, link, made, budget
        self._changes: int | None = None
        self._moment: Moment | None = None
        self._until = 0.0
        self._seals: dict[tuple[bytes, str], bytes] = {}
        self._deks: dict[bytes, Deks] = {}

    def seal(self, template: bytes | None, scope: str | None) -> bytes:
        """Returns the seal (capability | header) of the active key of a tenant or subject, and makes the key if
        there is none.

        Raises NotPermitted for a wrong template, KeyDestroyed for a subject that was erased, KeySuspended.
        """
        if template is None or len(template) != TEMPLATE_BYTES:
            raise errors.NotPermitted
        if scope is None:
            raise errors.BadInput("the row has no tenant or subject whose key could encrypt the value")
        now, current = monotonic(), moment()
        if current != self._moment or now > self._until or len(self._seals) >= MOST_SEALS:
            self._seals.clear()
            self._forget_changed()
            self._moment, self._until = current, now + MAX_AGE_SECONDS
        found = self._seals.get((template, scope))
        return found if found is not None else self._find(template, scope)

    def _forget_changed(self) -> None:
        changes = catalog_changes()
        if changes is None or changes != self._changes or is_in_block():
            self._deks.clear()
            self._changes = changes

    def _find(self, template: bytes, scope: str) -> bytes:
        subtransaction = moment()[2]
        found = self._host.as_owner(lambda: self._look_up(template, scope, subtransaction))
        # The search may be the first write of the transaction. A rollback then removes what it made.
        self._moment = moment()
        self._seals[template, scope] = found
        return found

    def _look_up(self, template: bytes, scope: str, subtransaction: int) -> bytes:
        """Runs as the extension's owner; `subtransaction` is the caller's."""
        deks = self._deks.get(template)
        if deks is None or deks.until < monotonic():
            deks = self._deks_of(template)
        key_id = self._keys.active(deks.owner, scope)
        if key_id is None:
            begin = partial(self._begin, template, deks.owner)
            key_id = self._keys.make(deks.owner, scope, deks.label, subtransaction, begin)
        return template[:KEY_ID_AT] + key_id.to_bytes(4, "big")

    def _begin(self, template: bytes, owner: str, made: Row) -> None:
        """Reserves the first messages of a new key in the same step, because it seals a value at once."""
        self._made(made["key_id"])
        if suite_of(template[SUITE_AT]).is_counted:
            self._budget.begin(owner, made)

    def _deks_of(self, template: bytes) -> Deks:
        row = self._host.row(FIELD, ["uuid"], [template[UUID_AT:].hex()])
        if row is None or not same(row["capability"], template[:CAPABILITY_BYTES]):
            raise errors.NotPermitted(hint=STALE_HINT)
        found = self._deks[template] = Deks(row["owner"], row["label"], monotonic() + MAX_AGE_SECONDS)
        return found

    @cached_property
    def _keys(self) -> ScopeKeys:
        from pg_envelope.backend.scope_keys import ScopeKeys

        return ScopeKeys(self._host, self._link)
