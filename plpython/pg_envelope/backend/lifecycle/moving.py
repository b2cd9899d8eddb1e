"""Carries out move_kek(): DEKs go to another KEK or store, in any KMS, while their tables are read and written."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import STORES, Keys
from pg_envelope.backend.lifecycle import deletion, environment, same_kek
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE, Answered, Batches, DeksLeft, words
from pg_envelope.backend.link import Link
from pg_envelope.backend.sqltext import literal
from pg_envelope.records import dataclass

BEHIND = """
envelope_private.dek
WHERE kek = $1 AND state <> 'destroyed' AND (kek <> $2 OR store <> $3)
    AND ($4 IS NULL OR key_uuid = $4) AND ($5 IS NULL OR scope = $5)"""
BEHIND_TYPES = ["text", "text", "text", "uuid", "text"]
COUNT = f"SELECT count(*) AS found FROM {BEHIND}"
NEXT = f"""
SELECT dek_id, wrapped, fingerprint, kek_version
FROM {BEHIND} AND store = $6 AND dek_id > $7 ORDER BY dek_id LIMIT $8"""
# A row is written only if it is as it was read. The next pass takes a DEK that was rewrapped or destroyed meanwhile.
KEEP = """
UPDATE envelope_private.dek d SET kek = $3, store = $4, wrapped = n.wrapped, kek_version = n.kek_version
FROM unnest($5::bigint[], $6::text[], $7::text[], $8::int4[]) AS n (dek_id, old, wrapped, kek_version)
WHERE d.dek_id = n.dek_id AND d.kek = $1 AND d.store = $2 AND d.state <> 'destroyed'
    AND d.wrapped IS NOT DISTINCT FROM n.old RETURNING d.dek_id"""
# Redirects the next versions to the new place. $3 is the store for DEKs of store vault, $4 for DEKs of the catalog.
REDIRECT = """
UPDATE envelope_private.{table} SET kek = $2, store = CASE store WHEN 'vault' THEN $3 ELSE $4 END
WHERE kek = $1 AND ($5 IS NULL OR key_uuid = $5) AND ($6 IS NULL OR {scope} = $6)"""
OWN_PLACE = """
INSERT INTO envelope_private.tenant (key_uuid, scope, kek, store)
SELECT key_uuid, $6, $2, CASE store WHEN 'vault' THEN $3 ELSE $4 END FROM envelope_private.key
WHERE kek = $1 AND key_uuid = $5 ON CONFLICT DO NOTHING"""
REDIRECT_TYPES = ["text", "text", "text", "text", "uuid", "text"]
DROP_SPARES = "SELECT envelope_private.drop_spares($1, of_key => $2) AS found"


@dataclass(frozen=True)
class Wanted:
    """A move as it was asked for. Without `store`, each DEK stays in its store if the new KEK has that store.

    `key_uuid` owns the DEKs, None for all. `scope` is a tenant. `again` is the call that goes on.
    """

    from_kek: str
    to_kek: str
    store: str | None
    key_uuid: str | None
    scope: str | None
    again: str


class Move(Batches):
    """Moves the DEKs that are under one KEK, and makes new ones in the new place."""

    done_word = "moved"

    def __init__(self, host: Host, link: Link, keys: Keys, wanted: Wanted) -> None:
        """Raises KekUnknown, StoreUnknown or BadInput before anything is changed."""
        super().__init__(host, link, "move_kek")
        self._wanted = wanted
        keys.kek(wanted.from_kek)
        told = keys.kek(wanted.to_kek)
        deletion.check(host, told)
        here = environment.installed(host, link)
        place = {"database_uuid": here["uuid"], "environment": here["environment"]}
        same_kek.check(host, link, wanted.to_kek, place)
        held = STORES if told["store"] == "vault" else ("catalog",)
        if wanted.store is not None and wanted.store not in held:
            raise errors.StoreUnknown
        if wanted.from_kek == wanted.to_kek and wanted.store is None:
            raise errors.BadInput("move_kek() needs another KEK, or a store")
        self._into = {store: wanted.store or (store if store in held else "catalog") for store in STORES}

    def run(self) -> None:
        self._host.run(ONE_BY_ONE)
        self._redirect()
        self._host.commit()
        super().run()

    @property
    def _again(self) -> str:
        return self._wanted.again

    @property
    def _selection(self) -> list[str | None]:
        wanted = self._wanted
        return [wanted.from_kek, wanted.to_kek, wanted.store, wanted.key_uuid, wanted.scope]

    def _redirect(self) -> None:
        """Makes new DEKs in the new place. The last pass finds the DEKs that are under way now."""
        wanted = self._wanted
        values = [wanted.from_kek, wanted.to_kek, *(self._into[store] for store in STORES), wanted.key_uuid]
        if wanted.scope is not None:
            self._host.rows(OWN_PLACE, REDIRECT_TYPES, [*values, wanted.scope])
        else:
            self._host.rows(REDIRECT.format(table="key", scope="NULL"), REDIRECT_TYPES, [*values, None])
            self._drop_spares()
        self._host.rows(REDIRECT.format(table="tenant", scope="scope"), REDIRECT_TYPES, [*values, wanted.scope])

    def _drop_spares(self) -> int:
        """Drops the spares, which nobody uses yet. Each table makes new spares in the new place."""
        if self._wanted.scope is not None:
            return 0
        row = self._host.row(DROP_SPARES, ["text", "uuid"], [self._wanted.from_kek, self._wanted.key_uuid])
        return int(row["found"]) if row else 0

    def _behind(self) -> int:
        row = self._host.row(COUNT, BEHIND_TYPES, self._selection)
        return int(row["found"]) if row else 0

    def _next(self, store: str, last: int, size: int) -> list[Row]:
        return self._host.rows(NEXT, [*BEHIND_TYPES, "text", "int8", "int4"], [*self._selection, store, last, size])

    def _places(self, store: str) -> dict[str, str]:
        wanted = self._wanted
        return {"kek": wanted.to_kek, "store": self._into[store], "from_kek": wanted.from_kek, "from_store": store}

    def _write(self, store: str, good: list[Answered]) -> int:
        columns = [
            [row["dek_id"] for row, _ in good],
            [row["wrapped"] for row, _ in good],
            [answer["wrapped"] for _, answer in good],
            [answer["kek_version"] for _, answer in good],
        ]
        types = ["text", "text", "text", "text", "int8[]", "text[]", "text[]", "int4[]"]
        places = [self._wanted.from_kek, store, self._wanted.to_kek, self._into[store]]
        return len(self._host.rows(KEEP, types, [*places, *columns]))

    def _finish(self) -> None:
        behind = self._behind()
        if behind:
            raise DeksLeft(
                f"{behind} DEKs are still under KEK {self._wanted.from_kek}",
                detail=self._causes(),
                hint=words(
                    self._restored(),
                    f"That KEK must stay until this succeeds: {self._again}. envelope.keys shows dek_id.",
                ),
            )
        self._host.notice(
            f"move_kek: {self._done} DEKs were moved from KEK {self._wanted.from_kek} to {self._wanted.to_kek}",
            hint="Keep the old KEK for as long as a backup may be restored: docs/runbooks/move-kek.md.",
        )


def again(values: dict[str, str | None]) -> str:
    """Returns the call, as a person would write it."""
    return f"CALL envelope.move_kek({', '.join(f'{n} => {literal(v)}' for n, v in values.items() if v is not None)})"
