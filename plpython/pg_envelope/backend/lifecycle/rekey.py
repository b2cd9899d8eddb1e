"""Carries out rekey(): a copy of a database gets keys of its own in the broker's environment, with all its values."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.instance import home
from pg_envelope.backend.keys import STORES, Keys
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE, Answered, Batches, DeksLeft
from pg_envelope.backend.lifecycle.environment import INSTALLATION
from pg_envelope.backend.link import Link
from pg_envelope.backend.sqltext import literal

START = """
INSERT INTO envelope_private.rekey (from_environment, environment) VALUES ($1, $2) ON CONFLICT DO NOTHING"""
UNDER_WAY = "SELECT from_environment, environment, database_uuid::text AS uuid FROM envelope_private.rekey"
LEFT = """
envelope_private.dek d WHERE d.state <> 'destroyed' AND NOT EXISTS (
    SELECT FROM envelope_private.rekey_dek r
    WHERE r.dek_id = d.dek_id AND r.old_wrapped IS NOT DISTINCT FROM d.wrapped)"""
KEKS = f"SELECT DISTINCT kek FROM {LEFT} ORDER BY 1"
ANY_LEFT = f"SELECT count(*) AS found FROM {LEFT}"
COUNT = f"SELECT count(*) AS found FROM {LEFT} AND d.kek = $1"
NEXT = f"""
SELECT d.dek_id, d.wrapped, d.fingerprint FROM {LEFT}
    AND d.kek = $1 AND d.store = $2 AND d.dek_id > $3 ORDER BY d.dek_id LIMIT $4"""
STAGE = """
INSERT INTO envelope_private.rekey_dek (dek_id, old_wrapped, kek, store, wrapped, kek_version)
SELECT n.dek_id, n.old, $1, $2, n.wrapped, n.kek_version
FROM unnest($3::bigint[], $4::text[], $5::text[], $6::int4[]) AS n (dek_id, old, wrapped, kek_version)
ON CONFLICT (dek_id) DO UPDATE SET old_wrapped = excluded.old_wrapped, kek = excluded.kek, store = excluded.store,
    wrapped = excluded.wrapped, kek_version = excluded.kek_version RETURNING dek_id"""
NO_NEW_DEKS = "LOCK TABLE envelope_private.dek IN SHARE ROW EXCLUSIVE MODE"
TAKE_OVER = """
UPDATE envelope_private.dek d SET kek = r.kek, store = r.store, wrapped = r.wrapped, kek_version = r.kek_version
FROM envelope_private.rekey_dek r WHERE r.dek_id = d.dek_id AND d.state <> 'destroyed'"""
SWITCH = (
    """
UPDATE envelope_private.installation i SET database_uuid = r.database_uuid, environment = r.environment
FROM envelope_private.rekey r""",
    "SELECT envelope_private.drop_spares()",
    "DELETE FROM envelope_private.rekey_dek",
    "DELETE FROM envelope_private.rekey",
)
SETTLE = "UPDATE envelope_private.installation SET home = $1, home_name = current_database()"
REDIRECT = "UPDATE envelope_private.{table} SET kek = $1, store = CASE WHEN $2 THEN store ELSE 'catalog' END"


class Rekey:
    """Wraps every DEK for the new place beside its old wrap, in committed batches. Then one transaction switches all of
    them.

    Until that transaction the catalog stays whole as it was. If it is killed, the copy is unchanged, and the next call
    goes on. It reads the original's wraps and never writes them: KV entries are made below the new database uuid.
    """

    def __init__(self, host: Host, link: Link, keys: Keys) -> None:
        self._host, self._link, self._keys = host, link, keys

    def run(self, from_environment: str, from_kek: str | None, to_kek: str | None) -> None:
        """Raises the error that stopped it; nothing is switched then."""
        origin = self._begin(from_environment)
        for row in self._host.rows(KEKS):
            ends = row["kek"], *(row["kek"] if kek is None else kek for kek in (from_kek, to_kek))
            _Staging(self._host, self._link, self._keys, origin, ends).run()
        count = self._switch(origin, to_kek)
        self._host.commit()
        self._link.ask("flush", reason="rekey")
        self._host.notice(f"rekey: {count} DEKs belong to environment {origin['to_environment']} now")
        self._host.warning(
            "backups of the keys that were made before open nothing in this database any more",
            detail="They are sealed for the environment and database uuid that the database had before.",
            hint="Make a new one: pg-envelope keys-backup make --out FILE. Keep the old ones for the original.",
        )

    def _begin(self, from_environment: str) -> Row:
        """Returns the old and the new place. The new database uuid is committed before anything is made under it."""
        self._host.run(ONE_BY_ONE)
        environment = str(self._link.ask("status")["environment"])
        here = self._host.row(INSTALLATION)
        if here is None:
            raise errors.KeyNotFound("this database has no keys", hint="There is nothing to move.")
        if here["environment"] not in (None, from_environment):
            raise errors.BadInput("the keys of this database belong to another environment", detail=here["environment"])
        self._host.rows(START, ["text", "text"], [from_environment, environment])
        target = self._host.row(UNDER_WAY)
        assert target is not None
        if (target["from_environment"], target["environment"]) != (from_environment, environment):
            raise errors.NotConfigured(
                "another rekey() of this database is under way",
                detail=f"from {target['from_environment']} to {target['environment']}",
                hint="First end that rekey with a broker of that environment, or give it up:"
                " DELETE FROM envelope_private.rekey; DELETE FROM envelope_private.rekey_dek.",
            )
        self._host.commit()
        return {
            "from_environment": from_environment,
            "from_database": here["uuid"],
            "to_environment": environment,
            "to_database": target["uuid"],
        }

    def _switch(self, origin: Row, to_kek: str | None) -> int:
        """Switches all DEKs at once. Returns how many. Raises DeksLeft when one has no new wrap."""
        self._host.run(ONE_BY_ONE)
        self._host.run(NO_NEW_DEKS)
        left = self._host.row(ANY_LEFT)
        if left and left["found"]:
            raise DeksLeft(f"{left['found']} DEKs were made meanwhile", hint="Nothing is switched. Call it again.")
        if to_kek is not None:
            told = self._keys.kek(to_kek)
            for table in ("key", "tenant"):
                self._host.rows(REDIRECT.format(table=table), ["text", "bool"], [to_kek, told["store"] == "vault"])
        self._record(origin)
        count = self._host.run(TAKE_OVER)
        for statement in SWITCH:
            self._host.run(statement)
        self._host.rows(SETTLE, ["text"], [home()])
        return count

    def _record(self, origin: Row) -> None:
        self._link.ask(
            "record",
            database_uuid=origin["from_database"],
            action="rekey",
            label=f"{origin['from_environment']} to {origin['to_environment']}",
            reason=f"database {origin['to_database']}",
            transitions=[],
        )


class _Staging(Batches):
    """Wraps the DEKs that the catalog names under one KEK."""

    done_word = "wrapped anew"

    def __init__(self, host: Host, link: Link, keys: Keys, origin: Row, ends: tuple[str, str, str]) -> None:
        """`ends` are the KEK's name in the catalog, the KEK to open with, and the KEK to wrap with.

        Raises KekUnknown.
        """
        super().__init__(host, link, "rekey")
        self._origin, (self._kek, self._from_kek, self._to_kek) = origin, ends
        keys.kek(self._from_kek)
        vault = keys.kek(self._to_kek)["store"] == "vault"
        self._into = {store: store if vault else "catalog" for store in STORES}

    @property
    def _again(self) -> str:
        return f"CALL envelope.rekey({literal(self._origin['from_environment'])}, ...) as before"

    def _behind(self) -> int:
        row = self._host.row(COUNT, ["text"], [self._kek])
        return int(row["found"]) if row else 0

    def _next(self, store: str, last: int, size: int) -> list[Row]:
        return self._host.rows(NEXT, ["text", "text", "int8", "int4"], [self._kek, store, last, size])

    def _places(self, store: str) -> dict[str, str]:
        return {
            "kek": self._to_kek,
            "store": self._into[store],
            "from_kek": self._from_kek,
            "from_store": store,
            "from_environment": self._origin["from_environment"],
            "from_database": self._origin["from_database"],
        }

    def _ask_and_write(self, _: str, store: str, rows: list[Row]) -> errors.EnvelopeError | None:
        return super()._ask_and_write(self._origin["to_database"], store, rows)

    def _write(self, store: str, good: list[Answered]) -> int:
        columns = [
            [row["dek_id"] for row, _ in good],
            [row["wrapped"] for row, _ in good],
            [answer["wrapped"] for _, answer in good],
            [answer["kek_version"] for _, answer in good],
        ]
        types = ["text", "text", "int8[]", "text[]", "text[]", "int4[]"]
        return len(self._host.rows(STAGE, types, [self._to_kek, self._into[store], *columns]))

    def _finish(self) -> None:
        behind = self._behind()
        if behind:
            raise DeksLeft(
                f"{behind} DEKs could not be wrapped for this environment",
                detail=self._causes(),
                hint=f"Nothing is switched. To go on: {self._again}.",
            )
