"""Loads a field key that the session does not hold: it checks the right in the catalog, then asks the broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from math import inf
from time import monotonic

from pg_envelope import envelope, errors, wire
from pg_envelope.backend.ahead import Ahead
from pg_envelope.backend.audited import AuditedKey
from pg_envelope.backend.budget import Budget
from pg_envelope.backend.erased import erased
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.link import Link, not_understood
from pg_envelope.backend.nonces import Nonces
from pg_envelope.backend.replayed import Replayed
from pg_envelope.backend.server import server
from pg_envelope.backend.session_keys import CAPABILITY_BYTES, MAX_KEYS, Fetched, Key, SessionKeys
from pg_envelope.envelope import HEADER_BYTES, FieldKey
from pg_envelope.suites import DEFAULT, KEY_BYTES
from pg_envelope.typed import TypeVar, cast

# At REPEATABLE READ the catalog may show a key as it was before it was suspended. On a standby it may also show a key
# as it was before it was destroyed, because the standby's broker may not know of that. On a standby
# pg_current_snapshot() does not tell what was in progress.
CURRENT = """
SELECT pg_is_in_recovery() AS standby, CASE WHEN pg_is_in_recovery() THEN t.xid >= r.last_value
    ELSE pg_visible_in_snapshot(s.last_value::text::xid8, pg_current_snapshot()) END AS current
FROM envelope_private.suspension_xid s, envelope_private.revocation_xid r, envelope_private.revocation t"""
# With the DEK's id, too, each table is read by its primary key, whatever the statistics say. Rows that are not
# committed yet do not count in them.
OF_KEY_ID = """
u.key_id = $1 AND u.dek_id = (SELECT f.dek_id FROM envelope_private.field_key f WHERE f.key_id = $1)"""
# The capability is compared in Python and never sent as a parameter, because parameters can reach logs.
KEY = f"""SELECT u.*, c.capability FROM envelope_private.usable_key u
LEFT JOIN envelope_private.capability c USING (field_uuid) WHERE {OF_KEY_ID}"""
# The rows come in the order of the columns. `head` is a header with key id 0.
READABLE = """
SELECT f.field_uuid, f.scope_key, f.database_uuid, f.label, f.audit, c.capability, substr(c.seal, 17, 6) AS head
FROM (SELECT p.field_uuid, t.scope_key, i.database_uuid, p.label, p.attnum, p.audit
    FROM envelope_private.protected_table t
    JOIN envelope_private.protected_column p USING (key_uuid) CROSS JOIN envelope_private.installation i
    WHERE $1 IN (t.view, t.base) AND t.scope <> 'table' AND has_column_privilege($2, t.view, p.attname, 'SELECT')) f
JOIN envelope_private.capability c USING (field_uuid) ORDER BY f.attnum"""
SEARCH = f"""SELECT c.seal, u.state
FROM envelope_private.usable_key u JOIN envelope_private.capability c USING (field_uuid)
WHERE {OF_KEY_ID} AND u.bind = 'search'"""
REPLACED = "decrypt-only"
REPLACED_HINT = "The rows have other tokens now. Copy the table's schema from the publisher again."
SCOPED = """
FROM envelope_private.dek d JOIN envelope_private.field_key fk USING (dek_id)
WHERE d.key_uuid = $1 AND d.scope = ANY ($2) AND fk.state <> 'destroyed' AND d.version > 0
    AND d.state NOT IN ('suspended', 'destroyed')"""
OF_SCOPES = f"""
SELECT fk.key_id, fk.salt, d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint {SCOPED} ORDER BY fk.key_id"""
HOW_MANY = f"SELECT count(*) AS found {SCOPED}"
# One request to the broker carries so many keys, because a frame has a limit.
MOST_DEKS = 200
MOST_FIELD_KEYS = 1000
ERASED_SECONDS = 300.0
STALE_HINT = "If this role should read it: CALL envelope.refresh(...) after a change of owner or a partial restore."

Result = TypeVar("Result")
Make = Callable[[bytes, bytes, float], Key]


class Loader:
    """Reads the key catalog as the extension's owner, for a role whose right it has checked."""

    def __init__(self, host: Host, link: Link) -> None:
        self._host = host
        self._link = link
        self.ahead = Ahead(host)
        self.budget = Budget(host, self._renew)
        self.replayed = Replayed(host)
        self._nonces = Nonces()

    def load(self, slot: bytes, keys: SessionKeys) -> dict[bytes, Fetched]:
        """Returns the key of a slot, for the calling role, and the keys that it will probably need next and that are
        not in `keys`, by their slots.

        Raises NotPermitted, InvalidEnvelope or what the broker says.
        """
        return self.as_owner(lambda: self._load(slot, keys))

    def prefetch(self, view: int, scopes: list[str]) -> dict[bytes, Fetched]:
        """The keys of tenants or subjects of a protected table, for the columns that the calling role may read."""
        role = server().GetUserId()
        return self.as_owner(lambda: self._prefetch(view, role, scopes))

    def prefetch_texts(self, view: int, texts: list[str], keys: SessionKeys) -> dict[bytes, Fetched]:
        """Returns those that are not in `keys`, for canonical texts. The caller sees to it that these are not too
        many.
        """
        role = server().GetUserId()
        return self.as_owner(lambda: self._prefetch_texts(self._readable(view, role), texts, keys))

    def search_slot(self, key_id: int) -> bytes:
        """Returns the slot of a search key, for the operators that are made for it. Raises NotPermitted."""
        for row in self.as_owner(lambda: self._host.rows(SEARCH, ["int8"], [key_id])):
            if row["state"] == REPLACED:
                # Where the key catalog is replicated, and the operators are not.
                raise errors.NotConfigured("the search key was replaced", hint=REPLACED_HINT)
            if row["seal"]:
                head = envelope.header(DEFAULT, padded=False, key_id=key_id)
                return bytes(row["seal"][:CAPABILITY_BYTES]) + head
        raise errors.NotPermitted

    def field_of(self, capability: bytes) -> str:
        """Returns the uuid of the field that a capability opens. Raises NotPermitted."""
        rows = self.as_owner(lambda: self._host.rows("SELECT field_uuid, capability FROM envelope_private.capability"))
        for row in rows:
            if same(row["capability"], capability):
                return str(row["field_uuid"])
        raise errors.NotPermitted

    def as_owner(self, step: Callable[[], Result]) -> Result:
        """Runs `step` as Host.as_owner does, where the catalog shows what is suspended now. Raises Conflict."""

        def current() -> Result:
            self._refuse_outdated()
            return step()

        return self._host.as_owner(current)

    def _refuse_outdated(self) -> None:
        found = self._host.row(CURRENT)
        if not found or not found["current"]:
            raise errors.Conflict(hint="A key was suspended since this transaction began: run it again.")
        self.replayed.standby = found["standby"]

    def _load(self, slot: bytes, keys: SessionKeys) -> dict[bytes, Fetched]:
        row = self._catalog_row(slot)
        what = f"key {row['key_id']} of {row['label']}"
        if row["state"] == "suspended":
            raise errors.KeySuspended(detail=what)
        if row["state"] == "destroyed":
            if row["erased"] == "null":
                return {slot: Fetched.made(erased(self._host, row, monotonic() + ERASED_SECONDS))}
            raise errors.KeyDestroyed(detail=what)
        capability, head = slot[:CAPABILITY_BYTES], slot[CAPABILITY_BYTES:]
        wanted = {slot: row}
        for other in self.ahead.after(slot, capability, row, keys):
            wanted[capability + head[:2] + other["key_id"].to_bytes(4, "big")] = other
        loaded = self._ask(wanted, asked=1)
        if isinstance(failed := loaded[slot], errors.EnvelopeError):
            raise failed
        return _keys(loaded)

    def _catalog_row(self, slot: bytes) -> Row:
        """Returns the key catalog's row for a slot, after a check that its capability belongs to the column."""
        capability, head = slot[:CAPABILITY_BYTES], slot[CAPABILITY_BYTES:]
        rows = self._host.rows(KEY, ["int8"], [envelope.key_id(head)]) if _is_header(head) else []
        for row in rows:
            if row["capability"] is not None and same(row["capability"], capability):
                return row
        raise self._refusal(capability, {name: rows[0][name] for name in ("label", "key_id")} if rows else {})

    def _prefetch(self, view: int, role: int, scopes: list[str]) -> dict[bytes, Fetched]:
        fields = self._readable(view, role)
        texts = _scope_texts(self._host, view, scopes)
        self._refuse_too_many(fields, texts)
        return self._prefetch_texts(fields, texts)

    def _readable(self, view: int, role: int) -> list[Row]:
        """Returns the columns of a protected table that a role may read. Raises NotPermitted if there are none."""
        fields = self._host.rows(READABLE, ["oid", "oid"], [view, role])
        if not fields:
            raise errors.NotPermitted(
                hint="This needs SELECT on a protected column of a table in tenant or subject scope."
            )
        return fields

    def _prefetch_texts(
        self, fields: list[Row], scopes: list[str], held: SessionKeys | None = None
    ) -> dict[bytes, Fetched]:
        size = max(1, min(MOST_DEKS, MOST_FIELD_KEYS // len(fields)))
        found: dict[bytes, Fetched] = {}
        for start in range(0, len(scopes), size):
            part = scopes[start : start + size]
            keys = self._host.rows(OF_SCOPES, ["uuid", "text[]"], [fields[0]["scope_key"], part])
            for first in range(0, len(keys), size):
                wanted = {
                    field["capability"] + field["head"][:2] + key["key_id"].to_bytes(4, "big"): {**key, **field}
                    for key in keys[first : first + size]
                    for field in fields
                }
                wanted = {slot: row for slot, row in wanted.items() if held is None or not held.holds(slot)}
                found |= _keys(self._ask(wanted, asked=len(wanted))) if wanted else {}
        return found

    def _refuse_too_many(self, fields: list[Row], scopes: list[str]) -> None:
        """Refuses more keys than a session holds: each column needs one, for each version that a tenant or
        subject has.
        """
        row = self._host.row(HOW_MANY, ["uuid", "text[]"], [fields[0]["scope_key"], scopes])
        wanted = len(fields) * int(row["found"] if row else 0)
        if wanted > MAX_KEYS:
            raise errors.BadInput(
                f"a session holds {MAX_KEYS} keys",
                detail=f"These tenants or subjects have {wanted} in {len(fields)} columns.",
                hint="Read in several parts.",
            )

    def _refusal(self, capability: bytes, about: dict[str, str | int | None]) -> errors.EnvelopeError:
        """Returns the error for a slot: an unknown capability has no right, and a known one met an envelope of
        another column.
        """
        known = self._host.rows("SELECT capability FROM envelope_private.capability")
        if any(same(row["capability"], capability) for row in known):
            return errors.UnknownKey()
        return errors.NotPermitted(hint=STALE_HINT, about=about)

    def _ask(self, wanted: dict[bytes, Row], asked: int) -> dict[bytes, Fetched | errors.EnvelopeError]:
        """Asks the broker for the keys of slots. All but the first `asked` of them are read ahead."""
        rows = list(wanted.values())
        more = {"ahead": len(rows) - asked} if len(rows) > asked else {}
        response = self._link.ask("derive", database_uuid=rows[0]["database_uuid"], keys=_requests(rows), **more)
        try:
            ttl = float(response["ttl"])
            answers = response["keys"]
            if not 0 <= ttl < inf or [answer["key_id"] for answer in answers] != [row["key_id"] for row in rows]:
                raise not_understood()
            ends = monotonic() + ttl
            makers = {row["field_uuid"]: self._maker(row) for row in rows}
            pairs = zip(wanted.items(), answers, strict=True)
            return {slot: _fetched(answer, ends, makers[row["field_uuid"]]) for (slot, row), answer in pairs}
        except (LookupError, TypeError, ValueError, AttributeError):
            raise not_understood() from None

    def _maker(self, row: Row) -> Make:
        """Returns the function that makes keys of a field out of their bytes."""
        if row.get("bind") == "search":
            return _token_key
        make: Make = partial(self._field_key, bytes.fromhex(row["field_uuid"].replace("-", "")))
        return make if row["audit"] == "none" else partial(self._audited_key, make, row["field_uuid"])

    def _field_key(self, field_uuid: bytes, slot: bytes, content: bytes, ends: float) -> Key:
        head = slot[CAPABILITY_BYTES:]
        reserve = self.budget.of(envelope.key_id(head))
        return FieldKey(head, field_uuid, content, ends, reserve=reserve, draw=self._nonces.draw)

    def _audited_key(self, make: Make, field_uuid: str, slot: bytes, content: bytes, ends: float) -> Key:
        return AuditedKey(cast(FieldKey, make(slot, content, ends)), field_uuid)

    def _renew(self, key_id: int) -> None:
        """Renews a key that has sealed many values. The import is late, so that a new connection's first write
        is quick.
        """
        from pg_envelope.backend.lifecycle.renewal import renew

        renew(self._host, self._link, key_id)


def _fetched(answer: wire.Message, ends: float, make: Make) -> Fetched | errors.EnvelopeError:
    if "error" in answer:
        return wire.error_from(answer["error"])
    content = wire.from_base64(answer["key"])
    if len(content) != KEY_BYTES:
        raise not_understood()
    return Fetched(content, ends, make)


def _token_key(_: bytes, content: bytes, ends: float) -> Key:
    """Imports the module here, so that only sessions that search pay for it."""
    from pg_envelope.tokens import TokenKey

    return TokenKey(content, ends)


def _scope_texts(host: Host, view: int, scopes: list[str]) -> list[str]:
    """Imports the module here, to keep a new connection's first read quick."""
    from pg_envelope.backend.tables.scope_values import ScopeColumn

    return ScopeColumn.of(host, view).texts(scopes)


def same(left: bytes, right: bytes) -> bool:
    """Tells whether two secrets are equal, in a time that does not show where they differ. The import of hmac takes
    4 ms.
    """
    return len(left) == len(right) and int.from_bytes(left, "big") ^ int.from_bytes(right, "big") == 0


def _is_header(head: bytes) -> bool:
    return len(head) == HEADER_BYTES and head[0] == envelope.VERSION


def _keys(loaded: Mapping[bytes, Fetched | errors.EnvelopeError]) -> dict[bytes, Fetched]:
    """Returns the keys by slot, without those that failed: a read that needs one asks for it, and gets the error."""
    return {slot: key for slot, key in loaded.items() if not isinstance(key, errors.EnvelopeError)}


def _requests(rows: list[Row]) -> list[wire.Dek]:
    """Returns one entry for each DEK. The rows of one DEK follow each other."""
    return [_request(list(group)) for _, group in groupby(rows, key=lambda row: row["dek_id"])]


def _request(rows: list[Row]) -> wire.Dek:
    dek = rows[0]
    return {
        "dek_id": dek["dek_id"],
        "kek": dek["kek"],
        "store": dek["store"],
        "wrapped": dek["wrapped"],
        "fingerprint": wire.to_base64(dek["fingerprint"]),
        "fields": [
            {
                "key_id": row["key_id"],
                "field_uuid": row["field_uuid"],
                "salt": wire.to_base64(row["salt"]),
                "label": row["label"],
            }
            for row in rows
        ],
    }
