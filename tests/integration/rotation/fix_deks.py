"""Databases with many DEKs whose plaintext the test knows, and OpenBao's own word that each still opens."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import requests

from pg_envelope import derivation
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database

KEK = "transit/keys/pg-envelope-default"
TRANSIT_BATCH = 200
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
PROTECT = """CALL envelope.protect('person', '["email"]')"""
ADD = "INSERT INTO envelope_private.key (kek, store) VALUES ('default', %s) RETURNING key_uuid"
INSERT = """
INSERT INTO envelope_private.dek (dek_id, key_uuid, version, state, kek, store, wrapped, fingerprint, kek_version)
VALUES (%s, %s, %s, 'decrypt-only', 'default', %s, %s, %s, %s)"""


class ManyDeks:
    """A database with a protected table and DEKs in one store; reached anew after each crash."""

    def __init__(self, stack: Stack, name: str, store: str, count: int) -> None:
        self.stack, self.name, self.store = stack, name, store
        # Hundreds of calls: one connection that stays open, in the place of a TLS handshake for each.
        self._http = requests.Session()
        self._http.trust_env = False
        self.uuid = str(self.sql("SELECT database_uuid FROM envelope_private.installation")[0][0])
        self.plain = {dek_id: os.urandom(derivation.DEK_BYTES) for dek_id in range(1001, 1001 + count)}
        self._insert(self._wrapped())

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.stack.connect(self.name) as connection:
            cursor = connection.execute(statement, values or None)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def kek_version(self) -> int:
        return int(self.stack.openbao.request("GET", KEK)["data"]["latest_version"])

    def versions(self) -> dict[int, int]:
        """How many DEKs the catalog says are under each KEK version."""
        return dict(self.sql("SELECT kek_version, count(*) FROM envelope_private.dek GROUP BY 1 ORDER BY 1"))

    def assert_all_open(self) -> None:
        """Each DEK opens in the KMS to the bytes it had, and the table's rows can be read with cold caches."""
        wraps = self.wraps()
        opened = self._transit("decrypt", [{"ciphertext": wraps[i], "context": self._context(i)} for i in self.plain])
        assert [base64.b64decode(item["plaintext"]) for item in opened] == list(self.plain.values())
        self.sql("SELECT envelope.flush('test')")
        assert self.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]

    def wraps(self) -> dict[int, str]:
        if self.store == "catalog":
            return dict(self.sql("SELECT dek_id, wrapped FROM envelope_private.dek WHERE store = 'catalog'"))
        return {i: self._vault("GET", self._entry(i))["data"]["data"]["wrapped"] for i in self.plain}

    def _vault(self, method: str, path: str, body: Any = None) -> Any:
        bao = self.stack.openbao
        self._http.headers["X-Vault-Token"] = bao.token_file.read_text()
        answer = self._http.request(method, f"{bao.address}/v1/{path}", json=body, verify=str(bao.ca_file), timeout=30)
        answer.raise_for_status()
        return answer.json()

    def close(self) -> None:
        self._http.close()

    def _entry(self, dek_id: int) -> str:
        return f"kv/data/pg_envelope/{self.uuid}/{dek_id}"

    def _context(self, dek_id: int) -> str:
        return base64.b64encode(derivation.context("default", self.uuid, dek_id).encode()).decode()

    def _transit(self, op: str, items: list[dict[str, str]]) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        for start in range(0, len(items), TRANSIT_BATCH):
            body = {"batch_input": items[start : start + TRANSIT_BATCH]}
            found += self._vault("POST", f"transit/{op}/pg-envelope-default", body)["data"]["batch_results"]
        return found

    def _wrapped(self) -> list[str]:
        items = [
            {"plaintext": base64.b64encode(dek).decode(), "context": self._context(i)} for i, dek in self.plain.items()
        ]
        return [item["ciphertext"] for item in self._transit("encrypt", items)]

    def _insert(self, wraps: list[str]) -> None:
        rows = []
        ((key_uuid,),) = self.sql(ADD, self.store)
        for version, ((dek_id, dek), wrapped) in enumerate(zip(self.plain.items(), wraps, strict=True), 1):
            fingerprint = derivation.fingerprint(dek, dek_id)
            kept = wrapped if self.store == "catalog" else None
            rows.append((dek_id, key_uuid, version, self.store, kept, fingerprint, int(wrapped.split(":")[1][1:])))
            if kept is None:
                secret = {"wrapped": wrapped, "kek": "default", "fingerprint": fingerprint.hex()}
                self._vault("POST", self._entry(dek_id), {"data": secret, "options": {"cas": 0}})
        with self.stack.connect(self.name) as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT, rows)


class Under:
    """A statement in a thread of its own, that waits for a lock."""

    def __init__(self, deks: ManyDeks, statement: str) -> None:
        self.session = deks.stack.connect(deks.name)
        self.pid = self.session.info.backend_pid
        self.error: psycopg.Error | None = None
        self._thread = threading.Thread(target=self._run, args=(statement,))
        self._thread.start()
        wait_until(lambda: deks.sql(WAITING) == [(1,)] or not self._thread.is_alive(), 60, "the wait for a lock")
        assert self._thread.is_alive(), self.error

    def _run(self, statement: str) -> None:
        try:
            self.session.execute(statement)
        except psycopg.Error as error:
            self.error = error

    def end(self) -> psycopg.Error | None:
        self._thread.join()
        self.session.close()
        return self.error


def notices(connection: psycopg.Connection[Any]) -> list[str]:
    """What the server tells this connection from now on."""
    found: list[str] = []
    connection.add_notice_handler(lambda report: found.append(report.message_primary or ""))
    return found


@pytest.fixture
def many_deks(breakable: Stack, db: Database) -> Iterator[Callable[[str, int], ManyDeks]]:
    """Makes a database with so many DEKs in a store; what it commits survives a crash."""
    db.durable()
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c'), (2, 'd@e.f')")
    db.sql(PROTECT)
    db.close()
    with contextlib.ExitStack() as made:
        yield lambda store, count: made.enter_context(contextlib.closing(ManyDeks(breakable, db.name, store, count)))
    if not breakable.openbao.running:
        breakable.openbao.start()
    elif breakable.openbao.sealed:
        breakable.openbao.unseal()
    breakable.openbao.request("POST", f"{KEK}/config", {"min_decryption_version": 1})
