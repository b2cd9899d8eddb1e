"""Fixtures of the backup tests: a stack with a KEK that a test may destroy, and the command of this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.processes import private_file
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import POLICY, breakable

__all__ = ["breakable"]

PASSPHRASE = "correct horse battery staple"
KEY = "transit/keys/pg-envelope-{}"
RULES = """
path "transit/*" { capabilities = ["read", "update"] }
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Vault:
    """One database, its stack, and a safe: a folder with passphrase, break-glass key and backups."""

    def __init__(self, stack: Stack, db: Database, safe: Path) -> None:
        self.stack, self.db, self.safe = stack, db, safe
        self.passphrase = safe / "passphrase"
        private_file(self.passphrase, PASSPHRASE + "\n")

    def run(self, *words: object, database: Database | None = None) -> Result:
        """The command as an administrator calls it, from this checkout."""
        environment = self.stack.cluster.environ((database or self.db).name, "postgres")
        done = subprocess.run(
            [Path(sys.executable).with_name("pg-envelope"), *map(str, words)],
            env={"PATH": os.environ["PATH"], "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def done(self, *words: object) -> Result:
        result = self.run(*words)
        assert result.code == 0, result.err
        return result

    def make_kek(self, name: str) -> None:
        self.stack.openbao.request("POST", KEY.format(name), {"type": "aes256-gcm96", "derived": True})
        self.stack.broker.configure({"kek": {name: {"kms": "main", "key": f"pg-envelope-{name}"}}})

    def destroy_kek(self, name: str) -> None:
        """By mistake, against all warnings."""
        self.stack.openbao.request("POST", KEY.format(name) + "/config", {"deletion_allowed": True})
        self.stack.openbao.request("DELETE", KEY.format(name))

    def init(self, *words: object, restore: bool = False) -> Result:
        """Makes the break-glass key; its public half goes to the broker."""
        result = self.done(
            "keys-backup", "init", "--out", self.safe, *(words or ("--passphrase-file", self.passphrase))
        )
        public = self.stack.broker.config_file.with_name("break-glass.pub")
        public.write_bytes((self.safe / "break-glass.pub").read_bytes())
        public.chmod(0o644)
        self.stack.broker.configure(
            {"broker": {"break_glass_public_key_file": str(public), "allow_keys_return": restore}}
        )
        self.stack.broker.restart()
        return result

    @property
    def unlock(self) -> tuple[object, ...]:
        return ("--key", self.safe / "break-glass.key", "--passphrase-file", self.passphrase)

    def backup(self, name: str = "keys.jsonl") -> Path:
        self.done("keys-backup", "make", "--out", self.safe / name)
        return self.safe / name


@pytest.fixture
def vault(breakable: Stack, db: Database, tmp_path: Path) -> Iterator[Vault]:
    """A database with keys in both stores under a KEK that is only its own."""
    policy = breakable.openbao.request("GET", POLICY)["data"]["policy"]
    breakable.openbao.request("PUT", POLICY, {"policy": policy + RULES})
    made = Vault(breakable, db, tmp_path)
    made.make_kek("doomed")
    made.make_kek("rescue")
    breakable.broker.restart()
    for table, store in (("person", "vault"), ("card", "catalog")):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, secret text)")
        db.sql(f"INSERT INTO {table} SELECT i, '{table} ' || i FROM generate_series(1, 3) i")
        db.sql(f"""CALL envelope.protect('{table}', '["secret"]', 'doomed', '{store}')""")
    # An old version with values under it.
    db.sql("SELECT envelope.rotate('card')")
    db.sql("UPDATE card SET secret = 'newer' WHERE id = 3")
    yield made
    there = breakable.openbao.request("LIST", "transit/keys")["data"]["keys"]
    for name in ("doomed", "rescue"):
        if f"pg-envelope-{name}" in there:
            made.destroy_kek(name)


@pytest.fixture
def rows(db: Database) -> Callable[[], list[str]]:
    """All values, with cold caches."""

    def read() -> list[str]:
        db.sql("SELECT envelope.flush('test')")
        return [value for (value,) in db.sql("SELECT secret FROM person UNION ALL SELECT secret FROM card ORDER BY 1")]

    return read
