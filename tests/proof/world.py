"""A database whose every value is known, and what must hold in it before, during and after any procedure."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg

from pg_envelope import derivation
from stack.openbao import OpenBao
from stack.stack import DATABASE, Stack

ROWS = 400
FEW = 20
ENVIRONMENT = "default"
BATCH = 200
PROTECT = """CALL envelope.protect('person', '["email", "note"]')"""
NOTE = "CASE WHEN id % 7 > 0 THEN convert_to('note ' || id, 'UTF8') END"
TABLES = f"""
CREATE TABLE person (id int PRIMARY KEY, email text, note bytea);
INSERT INTO person SELECT id, 'person-' || id || '@example.org', {NOTE} FROM generate_series(1, {ROWS}) id;
CREATE TABLE message (id int PRIMARY KEY, body text);
INSERT INTO message SELECT id, 'message ' || id FROM generate_series(1, {FEW}) id;
ANALYZE;
CALL envelope.protect('message', '["body"]', store => 'catalog');
SELECT envelope.create_key('api'), envelope.create_key('mail', store => 'catalog');
CREATE TABLE sealed AS
    SELECT id, k.name AS key, envelope.encrypt(k.name || ' ' || id, k.name, id::text) AS value
    FROM generate_series(1, {FEW}) id, (VALUES ('api'), ('mail')) k (name);
SELECT envelope.rotate('message'), envelope.rotate_key('api')"""

# What is asked, and the only right answer. Counts tell a lost, doubled or altered row; cold, so each key is fetched.
ROWS_READ = {
    "person": (
        f"SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE email = 'person-' || id || '@example.org'"
        f" AND note IS NOT DISTINCT FROM {NOTE}) FROM person",
        ROWS,
    ),
    "message": (
        "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE body = 'message ' || id) FROM message",
        FEW,
    ),
    "sealed": (
        "SELECT count(*), count(DISTINCT (id, key)),"
        " count(*) FILTER (WHERE envelope.decrypt(value, id::text) = key || ' ' || id) FROM sealed",
        2 * FEW,
    ),
}
# Each finds rows that must not be. A search key that was replaced keeps a name, and has no capability any more.
CATALOG = {
    "a living key without its one active version, or a retired one with any": """
SELECT k.key_uuid, count(d.dek_id) FROM envelope_private.key k
LEFT JOIN envelope_private.dek d ON d.key_uuid = k.key_uuid AND 'active' IN (d.state, d.suspended_from)
WHERE k.scope = 'table'
    AND NOT EXISTS (SELECT FROM envelope_private.dek x WHERE x.key_uuid = k.key_uuid AND x.state = 'destroyed')
GROUP BY k.key_uuid HAVING count(d.dek_id) <> CASE WHEN k.base IS NOT NULL OR EXISTS (
    SELECT FROM envelope_private.capability c JOIN envelope_private.field f USING (field_uuid)
    WHERE f.key_uuid = k.key_uuid) THEN 1 ELSE 0 END""",
    "two active versions of one scope": """
SELECT key_uuid, scope FROM envelope_private.dek WHERE state = 'active' GROUP BY 1, 2 HAVING count(*) > 1""",
    "a hole in the versions": """
SELECT key_uuid, scope FROM envelope_private.dek GROUP BY 1, 2 HAVING max(version) <> count(*)""",
    "a field without its one active field key, or with one that is not under the active version": """
SELECT f.field_uuid FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid)
LEFT JOIN envelope_private.field_key fk ON fk.field_uuid = f.field_uuid AND fk.state = 'active'
LEFT JOIN envelope_private.dek d ON d.dek_id = fk.dek_id AND d.key_uuid = f.key_uuid
    AND 'active' IN (d.state, d.suspended_from)
WHERE k.scope = 'table'
    AND NOT EXISTS (SELECT FROM envelope_private.dek x WHERE x.key_uuid = k.key_uuid AND x.state = 'destroyed')
    AND (k.base IS NOT NULL OR EXISTS (SELECT FROM envelope_private.capability c WHERE c.field_uuid = f.field_uuid))
GROUP BY 1 HAVING count(d.dek_id) <> 1 OR count(fk.key_id) <> 1""",
    "a seal that does not name the active field key": """
SELECT c.field_uuid FROM envelope_private.capability c JOIN envelope_private.field f USING (field_uuid)
JOIN envelope_private.key k USING (key_uuid)
LEFT JOIN envelope_private.field_key fk ON fk.field_uuid = c.field_uuid AND fk.state = 'active'
WHERE k.scope = 'table' AND fk.key_id IS NOT NULL
    AND ('x' || encode(substr(c.seal, 19, 4), 'hex'))::bit(32)::bigint IS DISTINCT FROM fk.key_id""",
    "a DEK without its wrap, or with one too many": """
SELECT dek_id FROM envelope_private.dek WHERE state <> 'destroyed' AND (wrapped IS NULL) <> (store = 'vault')""",
    "a field key in a state that its version does not allow": """
SELECT key_id FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
WHERE fk.state = 'active' AND d.state NOT IN ('active', 'suspended')
    OR d.state = 'compromised' AND fk.state <> 'compromised'""",
}
DEKS = """
SELECT d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint, d.kek_version FROM envelope_private.dek d
WHERE d.state <> 'destroyed' ORDER BY d.dek_id"""
OLD = """
SELECT count(*) FROM {base} t WHERE NOT (substr({column}, 1, 6) = (SELECT substr(c.seal, 17) FROM
    envelope_private.capability c JOIN envelope_private.protected_column p USING (field_uuid)
    WHERE p.base = '{base}'::regclass AND p.attname = '{column}'))"""


class Wrong(AssertionError):
    """An invariant does not hold."""


class World:
    """One database. `memo` is for what a procedure remembers between its start and its end."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack, self.name = stack, name
        self.memo: dict[str, Any] = {}
        self._connection: psycopg.Connection[Any] | None = None

    def make(self, *, protected: bool) -> None:
        """The database anew, with two tables and two named keys that have old and new versions."""
        self.disconnect()
        with self.stack.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")  # type: ignore[call-overload]
            connection.execute(f"CREATE DATABASE {self.name} TEMPLATE {DATABASE}")  # type: ignore[call-overload]
        self.memo = {}
        self.sql(TABLES)
        if protected:
            self.sql(f"{PROTECT}; SELECT envelope.rotate('person')")

    @property
    def session(self) -> psycopg.Connection[Any]:
        """The one session of this world, in autocommit mode; after `disconnect` another one."""
        if self._connection is None:
            self._connection = self.stack.connect(self.name)
        return self._connection

    def disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        cursor = self.session.execute(statement, values or None)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: Any) -> Any:
        return self.sql(statement, *values)[0][0]

    def version(self, key: str) -> int:
        """The newest version of a table's or a named key."""
        newest = "SELECT max(version) FROM envelope.keys WHERE coalesce(name, relation::text) = %s"
        return int(self.one(newest, key))

    def check(self) -> None:
        """Raises Wrong unless each row reads once, as it was written, each DEK opens, and the catalog is in order."""
        self._check_deks()
        self.check_reads()
        failed = "SELECT check_name, detail FROM envelope.status() WHERE state = 'failed'"
        expect("failed rows of envelope.status()", self.sql(failed), [])

    def check_reads(self) -> None:
        """Of these, what people notice: rows and catalog."""
        for what, query in CATALOG.items():
            expect(what, self.sql(query), [])
        self.sql("SELECT envelope.flush('proof')")
        for what, (query, count) in ROWS_READ.items():
            expect(f"rows of {what}, exact", self.sql(query), [(count, count, count)])

    def check_writes(self) -> None:
        """What is written now is under the active version. (An unchanged value would keep its envelope.)"""
        for relation, column in (("person", "email"), ("message", "body")):
            for value in (f"{column} || 'x'", f"rtrim({column}, 'x')"):
                self.sql(f"UPDATE {relation} SET {column} = {value} WHERE id = 1")
            base = f"{relation}_encrypted"
            if self.one(f"SELECT to_regclass('{base}') IS NOT NULL"):
                old = OLD.format(base=base, column=column) + " AND id = 1"
                expect(f"old header in {base} after a write", self.sql(old), [(0,)])

    def check_no_old(self, base: str, *columns: str) -> None:
        """No envelope of an old version is left."""
        for column in columns:
            query = OLD.format(base=base, column=column) + f" AND {column} IS NOT NULL"
            expect(f"old envelopes in {base}.{column}", self.sql(query), [(0,)])

    def _check_deks(self) -> None:
        """Asks OpenBao itself, not the broker: neither its caches nor its code are taken at their word."""
        uuid, deks = self.one("SELECT database_uuid FROM envelope_private.installation"), self.sql(DEKS)
        with Kms(self.stack.openbao) as kms:
            wraps = [wrapped or kms.entry(uuid, dek_id) for dek_id, _, _, wrapped, _, _ in deks]
            for kek in {dek[1] for dek in deks}:
                of_kek = [(dek, wrapped) for dek, wrapped in zip(deks, wraps, strict=True) if dek[1] == kek]
                opened = kms.opened(kek, uuid, [(dek[0], wrapped) for dek, wrapped in of_kek])
                for (dek, wrapped), plain in zip(of_kek, opened, strict=True):
                    expect(f"DEK {dek[0]}", derivation.fingerprint(plain, dek[0]), bytes(dek[4]))
                    # In store vault the entry may be one rotation ahead of the catalog: rewrap() looks at it again.
                    if dek[5] is not None and int(wrapped.split(":")[1][1:]) < dek[5]:
                        raise Wrong(f"DEK {dek[0]}: the catalog names a newer KEK version than wraps it")


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{what}: {found!r} instead of {wanted!r}")


class Kms:
    """OpenBao with the root token, over one connection."""

    def __init__(self, openbao: OpenBao) -> None:
        self._token = openbao.token_file.read_text()
        tls = ssl.create_default_context(cafile=str(openbao.ca_file))
        self._connection = http.client.HTTPSConnection("127.0.0.1", openbao.port, timeout=10, context=tls)

    def __enter__(self) -> Kms:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def entry(self, uuid: UUID, dek_id: int) -> str:
        """The wrap in store vault."""
        answer = self._ask("GET", f"kv/data/pg_envelope/{uuid}/{dek_id}")
        return str(answer["data"]["wrapped"])

    def opened(self, kek: str, uuid: UUID, wraps: Sequence[tuple[int, str]]) -> Iterator[bytes]:
        """Each DEK in the clear, in order."""
        for start in range(0, len(wraps), BATCH):
            items = [
                {
                    "ciphertext": wrapped,
                    "context": base64.b64encode(derivation.context(ENVIRONMENT, uuid, dek_id).encode()).decode(),
                }
                for dek_id, wrapped in wraps[start : start + BATCH]
            ]
            answer = self._ask("POST", f"transit/decrypt/pg-envelope-{kek}", {"batch_input": items})
            yield from (base64.b64decode(item["plaintext"]) for item in answer["batch_results"])

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        headers = {"X-Vault-Token": self._token}
        self._connection.request(method, f"/v1/{path}", json.dumps(body) if body else None, headers)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        if response.status != http.client.OK:
            raise Wrong(f"OpenBao: {method} {path}: {response.status} {text}")
        return dict(json.loads(text)["data"])
