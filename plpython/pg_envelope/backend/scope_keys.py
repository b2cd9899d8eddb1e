"""The DEKs of tenants and subjects: one for each, made at its first write; in store catalog out of a pool of spares."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic

from pg_envelope import errors, wire
from pg_envelope.backend.drawn import Drawn, Kept
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.instance import home
from pg_envelope.backend.keys import Keys, Transition
from pg_envelope.backend.link import Link, not_understood
from pg_envelope.backend.server import Moment, moment

FIRST_BATCH, MOST = 4, 200
# A session that has made no DEKs for so long begins again with a small batch.
IDLE_SECONDS = 60.0
TRIES = 100
NEVER: Moment = (0, -1, 0)

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1::text || ' ' || $2, 0))"
STATES = """
SELECT d.state, d.version, d.dek_id, fk.key_id FROM envelope_private.dek d
LEFT JOIN envelope_private.field_key fk ON fk.dek_id = d.dek_id AND fk.state = 'active'
WHERE d.key_uuid = $1 AND d.scope = $2 ORDER BY d.version DESC"""
PLACE = """
SELECT coalesce(t.kek, k.kek) AS kek, coalesce(t.store, k.store) AS store,
    (SELECT max(d.version) FROM envelope_private.dek d WHERE d.key_uuid = $1 AND d.scope = $2) AS newest
FROM envelope_private.key k
LEFT JOIN envelope_private.tenant t ON t.key_uuid = k.key_uuid AND t.scope = $2 WHERE k.key_uuid = $1"""
NEWEST = "SELECT max(version) AS version FROM envelope_private.dek WHERE key_uuid = $1 AND scope = $2"
# The index still holds the entries of spares that this transaction has taken. They are not walked over again.
TAKE = """
WITH taken AS (
    DELETE FROM envelope_private.spare_dek WHERE dek_id = (
        SELECT s.dek_id FROM envelope_private.spare_dek s
        WHERE s.key_uuid = $1 AND s.kek = $3 AND s.key_id > $5 AND s.key_id <= $6 AND s.home = $7
            AND s.dek_id <> ALL ($8)
        ORDER BY s.key_id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING *),
made AS (
    INSERT INTO envelope_private.dek
        (dek_id, key_uuid, version, scope, state, kek, store, wrapped, fingerprint, kek_version)
    SELECT dek_id, $1, $4, $2, 'active', kek, 'catalog', wrapped, fingerprint, kek_version FROM taken
    ON CONFLICT DO NOTHING RETURNING dek_id)
INSERT INTO envelope_private.field_key (key_id, dek_id, version, salt, state, counted_from)
SELECT t.key_id, t.dek_id, $4, t.salt, 'active', envelope_private.count_from($1) FROM taken t JOIN made USING (dek_id)
RETURNING key_id, counted_from"""
# A session that rotates the KEK waits for this lock. Then it can see every DEK that was made before.
LOCK_DEKS = "LOCK TABLE envelope_private.dek IN ROW EXCLUSIVE MODE"
DRAW = """
SELECT envelope_private.next_dek_id() AS dek_id, envelope_private.next_key_id() AS key_id
FROM generate_series(1, $1)"""
KEY_ID = "SELECT envelope_private.next_key_id() AS key_id"
NEXT_SPARES = """
SELECT s.dek_id, s.fingerprint, s.key_id FROM envelope_private.spare_dek s
WHERE s.key_uuid = $1 AND s.kek = $2 AND s.key_id > $3 AND s.home = $4 ORDER BY s.key_id LIMIT $5"""
DROP_DEAD = """
DELETE FROM envelope_private.spare_dek WHERE dek_id IN (
    SELECT s.dek_id FROM envelope_private.spare_dek s WHERE s.dek_id = ANY ($1) FOR UPDATE SKIP LOCKED)"""
# Spares of the original, in a copy. Their ids may also be drawn here.
DROP_FOREIGN = """
DELETE FROM envelope_private.spare_dek WHERE dek_id IN (
    SELECT s.dek_id FROM envelope_private.spare_dek s WHERE s.home <> $1 FOR UPDATE SKIP LOCKED)"""
ADD = """
INSERT INTO envelope_private.spare_dek (dek_id, key_uuid, kek, wrapped, fingerprint, kek_version, key_id, salt, home)
SELECT n.dek_id, $1, $2, n.wrapped, n.fingerprint, n.kek_version, n.key_id, n.salt, $9
FROM unnest($3::bigint[], $4::text[], $5::bytea[], $6::int4[], $7::bigint[], $8::bytea[])
    AS n (dek_id, wrapped, fingerprint, kek_version, key_id, salt)"""
ADD_SINGLE = """
WITH made AS (
    INSERT INTO envelope_private.dek
        (dek_id, key_uuid, version, scope, state, kek, store, wrapped, fingerprint, kek_version)
    VALUES ($3, $1, $4, $2, 'active', $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING dek_id)
INSERT INTO envelope_private.field_key (key_id, dek_id, version, salt, state, counted_from)
SELECT $11, dek_id, $4, $10, 'active', envelope_private.count_from($1) FROM made RETURNING key_id, counted_from"""
MOST_ROTATED = 10_000
ALL = """
SELECT DISTINCT scope FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT NULL AND state = 'active' ORDER BY scope LIMIT $2"""
RETIRE = {
    "key_id": """
UPDATE envelope_private.field_key k SET state = 'decrypt-only' FROM envelope_private.dek d
WHERE d.key_uuid = $1 AND d.scope = ANY ($2) AND d.state = 'active' AND k.dek_id = d.dek_id AND k.state = 'active'
RETURNING k.key_id""",
    "dek_id": """
UPDATE envelope_private.dek SET state = 'decrypt-only', state_since = now()
WHERE key_uuid = $1 AND scope = ANY ($2) AND state = 'active' RETURNING dek_id""",
}
MADE = "SELECT key_id, dek_id FROM envelope_private.field_key WHERE key_id = $1"
ERASED_HINT = (
    "This tenant or subject was erased, so its values cannot be encrypted again. envelope.keys shows its keys."
)


class ScopeKeys(Keys):
    """Every method runs as the extension's owner, in the caller's transaction. `owner` is the key that has the DEKs."""

    def __init__(self, host: Host, link: Link) -> None:
        super().__init__(host, link)
        self._batch, self._last_batch = FIRST_BATCH, 0.0
        self._subtransaction = 0
        # When the last spare was taken, and its key id. While neither transaction nor subtransaction changes, nothing
        # was rolled back.
        self._taken: tuple[Moment, int] = NEVER, 0
        self._kept = Kept(host)
        # The key id up to which the spares are known to be alive, by key and KEK; and the ids of dead spares.
        self._checked: dict[tuple[str, str], int] = {}
        self._dead: list[int] = []

    def active(self, owner: str, scope: str) -> int | None:
        """Returns the id of the active key, or None when one can be made. Raises KeyDestroyed, KeySuspended."""
        rows = self._host.rows(STATES, ["uuid", "text"], [owner, scope])
        for row in rows:
            if row["state"] == "active" and row["key_id"] is not None:
                return int(row["key_id"])
        states = {row["state"] for row in rows}
        if "suspended" in states:
            raise errors.KeySuspended(detail=_whose(rows))
        if states == {"destroyed"}:
            raise errors.KeyDestroyed(detail=_whose(rows), hint=ERASED_HINT)
        return None

    def make(
        self,
        owner: str,
        scope: str,
        label: str,
        subtransaction: int | None = None,
        begin: Callable[[Row], None] | None = None,
    ) -> int:
        """Returns the id of a new key, or of one that another session has made meanwhile. Raises Conflict.

        `subtransaction` is the caller's: PL/Python runs each query that calls back in one of its own. `begin` hears of
        a key that is made here: its `key_id` and `counted_from`.
        """
        self._subtransaction = moment()[2] if subtransaction is None else subtransaction
        made = self._new_version(owner, scope, label)
        if made is not None and begin is not None:
            begin(made)
        key_id = self.active(owner, scope) if made is None else int(made["key_id"])
        if key_id is None:
            raise errors.Conflict(
                hint="Another transaction gave this tenant or subject a key. Run the transaction again."
            )
        return key_id

    def _new_version(self, owner: str, scope: str, label: str) -> Row | None:
        """Returns a new active key, with a DEK of its own. None when another session was quicker, and has committed.

        The unique index on dek lets one session in, and the others wait. A lock for each subject would fill the
        server's table of locks.
        """
        # The lock comes first. A session that moves or rotates a KEK waits for its holders, and then finds the DEK.
        self._host.rows(LOCK_DEKS)
        place = self._place_of(owner, scope)
        kek, store, version = place["kek"], place["store"], (place["newest"] or 0) + 1
        if store != "catalog":
            return self._single(owner, scope, kek, store, version)
        found = self._take(owner, scope, kek, version)
        if found is None and self.active(owner, scope) is None:
            self._refill(owner, kek, label)
            found = self._take(owner, scope, kek, version)
        return found

    def kek_of(self, owner: str, scope: str) -> tuple[str, str]:
        """Returns KEK and store of a tenant's or subject's next DEK. A tenant may have its own."""
        place = self._place_of(owner, scope)
        return place["kek"], place["store"]

    def _place_of(self, owner: str, scope: str) -> Row:
        row = self._host.row(PLACE, ["uuid", "text"], [owner, scope])
        if row is None:
            raise errors.Internal
        return row

    def rotate_scope(self, owner: str, scope: str, label: str) -> int:
        """Makes a new active DEK.

        The one before decrypts only. Returns its version. Raises KeyNotFound, KeyDestroyed.
        """
        # Two rotations at once run one after the other.
        self._host.rows(LOCK, ["uuid", "text"], [owner, scope])
        if self.active(owner, scope) is None:
            raise errors.KeyNotFound("there is no such tenant or subject with an active key")
        self._record("rotate", label, self.renew(owner, [scope], label))
        newest = self._host.row(NEWEST, ["uuid", "text"], [owner, scope])
        return int(newest["version"]) if newest else 0

    def renew(self, owner: str, scopes: list[str], label: str) -> list[Transition]:
        """Makes new active DEKs for tenants or subjects that the caller has locked. The DEKs before decrypt only."""
        changed: list[Transition] = [
            {kind: row[kind], "from": "active", "to": "decrypt-only"}
            for kind, retire in RETIRE.items()
            for row in self._host.rows(retire, ["uuid", "text[]"], [owner, scopes])
        ]
        for scope in scopes:
            key_id = self.make(owner, scope, label)
            made = self._host.row(MADE, ["int8"], [key_id]) or {}
            changed += [{kind: made[kind], "from": None, "to": "active"} for kind in RETIRE]
        return changed

    def _take(self, owner: str, scope: str, kek: str, version: int) -> Row | None:
        """Takes a living spare of this database for a tenant or subject. None when there is none, or another
        session was quicker.
        """
        while True:
            when, reached = self._taken
            after = reached if when[1:] == self._now()[1:] else 0
            checked = self._checked.get((owner, kek), 0)
            types = ["uuid", "text", "text", "int4", "int8", "int8", "text", "int8[]"]
            row = self._host.row(TAKE, types, [owner, scope, kek, version, after, checked, home(), self._dead])
            if row is not None:
                self._taken = self._now(), row["key_id"]
            if row is not None or not self._check_more(owner, kek, checked):
                return row

    def _now(self) -> Moment:
        statement, transaction, _ = moment()
        return statement, transaction, self._subtransaction

    def _check_more(self, owner: str, kek: str, after: int) -> bool:
        """Tells whether more spares are left. A backup's spares may have been used and erased since, so the
        broker is asked.
        """
        found = self._host.rows(
            NEXT_SPARES, ["uuid", "text", "int8", "text", "int4"], [owner, kek, after, home(), MOST]
        )
        if not found:
            return False
        deks = [{"dek_id": row["dek_id"], "fingerprint": wire.to_base64(row["fingerprint"])} for row in found]
        page = {"after": 0, "most": 0, "verify": False}
        answer = self._link.ask("erasures", database_uuid=self._database_uuid(), deks=deks, **page)
        if dead := answer["dead"]:
            # The session remembers the dead spares, because a rollback brings their rows back.
            self._dead += dead
            self._host.rows(DROP_DEAD, ["int8[]"], [dead])
        self._checked[owner, kek] = found[-1]["key_id"]
        return True

    def _refill(self, owner: str, kek: str, label: str) -> None:
        """Makes more spares: a few at first, and twice as many each time that the last ones are used up."""
        place = owner, kek, "catalog"
        self._taken = NEVER, 0
        self._host.rows(DROP_FOREIGN, ["text"], [home()])
        spares = self._kept.free(place, self._batch, self._now())
        if not spares:
            now = monotonic()
            self._batch = min(MOST, 2 * self._batch) if now - self._last_batch < IDLE_SECONDS else FIRST_BATCH
            self._last_batch = now
            spares = self._generated(kek, label)
        columns = [
            [one.dek_id for one in spares],
            [one.wrapped for one in spares],
            [one.fingerprint for one in spares],
            [one.kek_version for one in spares],
            [one.key_id for one in spares],
            [one.salt for one in spares],
        ]
        types = ["uuid", "text", "int8[]", "text[]", "bytea[]", "int4[]", "int8[]", "bytea[]", "text"]
        self._host.rows(ADD, types, [owner, kek, *columns, home()])
        self._kept.keep(place, spares, self._now())
        self._checked[owner, kek] = max(self._checked.get((owner, kek), 0), *(one.key_id for one in spares))

    def _generated(self, kek: str, label: str) -> list[Drawn]:
        """Returns new DEKs with their ids. It passes over ids that the broker knows as erased, as in a restored
        database.
        """
        self._refuse_another(kek)
        for _ in range(TRIES):
            drawn = self._host.rows(DRAW, ["int4"], [self._batch])
            try:
                answer = self._link.ask(
                    "generate",
                    **self._place(),
                    kek=kek,
                    store="catalog",
                    dek_ids=[row["dek_id"] for row in drawn],
                    label=label,
                )
            except errors.StoreConflict:
                self._batch = MOST
                continue
            deks = answer.get("deks")
            if not isinstance(deks, list) or [dek.get("dek_id") for dek in deks] != [row["dek_id"] for row in drawn]:
                raise not_understood()
            return [_drawn(row["key_id"], dek) for row, dek in zip(drawn, deks, strict=True)]
        raise errors.StoreConflict

    def _single(self, owner: str, scope: str, kek: str, store: str, version: int) -> Row | None:
        place = owner, kek, store
        if free := self._kept.free(place, 1, self._now()):
            one = free[0]
        else:
            dek_id, made = self._generate({"kek": kek, "store": store})
            key_id = self._host.row(KEY_ID)
            one = _drawn(int(key_id["key_id"] if key_id else 0), {**made, "dek_id": dek_id})
        types = ["uuid", "text", "int8", "int4", "text", "text", "text", "bytea", "int4", "bytea", "int8"]
        values = [owner, scope, one.dek_id, version, kek, store, one.wrapped, one.fingerprint, one.kek_version]
        found = self._host.row(ADD_SINGLE, types, [*values, one.salt, one.key_id])
        self._kept.keep(place, [one], self._now())
        return found


def _drawn(key_id: int, dek: wire.Message) -> Drawn:
    """Returns the DEK that the broker made, with a new salt for its field key."""
    fingerprint = wire.from_base64(dek["fingerprint"])
    return Drawn(dek["dek_id"], key_id, os.urandom(32), dek["wrapped"], fingerprint, dek["kek_version"])


def _whose(rows: list[Row]) -> str:
    """Picks, out of many rows, the row that an error is about. The error names no tenant or subject, because it
    reaches the server's log.
    """
    newest = rows[0]["dek_id"]
    return f"Whose it is: SELECT scope FROM envelope.keys WHERE dek_id = {newest}"


def rotate_scopes(host: Host, link: Link, key: Row, scopes: list[str] | None) -> int:
    """Makes a new DEK for these scopes of a protected table, or for all of them. Returns the newest version."""
    keys = ScopeKeys(host, link)
    owner, label = str(key["scope_key"]), str(key["view_name"])
    if scopes is not None:
        return max(keys.rotate_scope(owner, scope, label) for scope in scopes)
    found = host.rows(ALL, ["uuid", "int4"], [owner, MOST_ROTATED + 1])
    if len(found) > MOST_ROTATED:
        raise errors.Unsupported(
            f"the table has more than {MOST_ROTATED} {key['scope']}s, which are not rotated in one statement",
            hint="Rotate in parts: SELECT envelope.rotate('<table>', scope) FROM ...",
        )
    return max((keys.rotate_scope(owner, row["scope"], label) for row in found), default=0)
