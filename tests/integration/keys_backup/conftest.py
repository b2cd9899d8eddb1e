"""Fixtures of the backup tests: a stack with a KEK that a test may destroy, and the command of this checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import break_glass, keys_backup
from stack.broker import toml
from stack.processes import private_file
from stack.stack import Stack
from tests import fix_forked
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import POLICY, breakable

__all__ = ["breakable"]

PASSPHRASE = "correct horse battery staple"
KEY = "transit/keys/pg-envelope-{}"
# What values are under, and what they may be saved to.
KEKS = ("doomed", "rescue")
# Of scrypt: the usual cost is a third of a second for each command. The command `init` takes that one.
CHEAP = {"n": 1 << 10, "r": 8, "p": 1}
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
        found = self.stack.cluster.environ((database or self.db).name, "postgres")
        environment = {"PATH": os.environ["PATH"], "COLUMNS": "200", **found}
        python = Path(sys.executable)
        done = fix_forked.run(python, [python.with_name("pg-envelope"), *words], environment)
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def done(self, *words: object) -> Result:
        result = self.run(*words)
        assert result.code == 0, result.err
        return result

    def make_kek(self, name: str) -> None:
        make_key(self.stack, name)
        self.stack.broker.configure({"kek": {name: section(name)}})

    def destroy_kek(self, name: str) -> None:
        """By mistake, against all warnings."""
        destroy_key(self.stack, name)

    def init(self, *words: object) -> Result:
        """Makes another break-glass key by the command; its public half goes to the broker."""
        for file in self.safe.glob("break-glass.*"):
            file.unlink()
        result = self.done("keys-backup", "init", "--out", self.safe, *words)
        public = public_file(self.stack)
        public.write_bytes((self.safe / "break-glass.pub").read_bytes())
        self.stack.broker.restart()
        return result

    def without(self, *names: str) -> None:
        """The broker without these settings of its section `broker`."""
        tables = self.stack.broker.config()
        for name in names:
            del tables["broker"][name]
        private_file(self.stack.broker.config_file, toml(tables), self.stack.broker.account)
        self.stack.broker.restart()

    @property
    def unlock(self) -> tuple[object, ...]:
        return ("--key", self.safe / "break-glass.key", "--passphrase-file", self.passphrase)

    def backup(self, name: str = "keys.jsonl") -> Path:
        self.done("keys-backup", "make", "--out", self.safe / name)
        return self.safe / name


def section(name: str) -> dict[str, str]:
    return {"kms": "main", "key": f"pg-envelope-{name}"}


def make_key(stack: Stack, name: str) -> None:
    stack.openbao.request("POST", KEY.format(name), {"type": "aes256-gcm96", "derived": True})


def destroy_key(stack: Stack, name: str) -> None:
    stack.openbao.request("POST", KEY.format(name) + "/config", {"deletion_allowed": True})
    stack.openbao.request("DELETE", KEY.format(name))


def public_file(stack: Stack) -> Path:
    return stack.broker.config_file.with_name("break-glass.pub")


@pytest.fixture(scope="module")
def break_glass_key(stack: Stack) -> Iterator[X25519PrivateKey]:
    """For a whole module, the broker's configuration has the KEKs, and the public half of this key."""
    config, policy = stack.broker.config_file.read_text(), stack.openbao.request("GET", POLICY)["data"]["policy"]
    stack.openbao.request("PUT", POLICY, {"policy": policy + RULES})
    private, public = X25519PrivateKey.generate(), public_file(stack)
    settings = {"break_glass_public_key_file": str(public), "allow_keys_return": True}
    stack.broker.configure({"kek": {name: section(name) for name in KEKS}, "broker": settings})
    yield private
    stack.openbao.request("PUT", POLICY, {"policy": policy})
    for name in versions(stack):
        destroy_key(stack, name)
    private_file(stack.broker.config_file, config, stack.broker.account)
    stack.broker.restart()
    public.unlink()


def versions(stack: Stack) -> dict[str, int]:
    """The newest version of each of the KEKs that are there."""
    there = stack.openbao.request("LIST", "transit/keys")["data"]["keys"]
    found = [name for name in KEKS if f"pg-envelope-{name}" in there]
    return {name: stack.openbao.request("GET", KEY.format(name))["data"]["latest_version"] for name in found}


@pytest.fixture
def new_keks(stack: Stack, break_glass_key: X25519PrivateKey) -> None:
    """Nobody has destroyed or rotated the KEKs. The broker starts anew only after somebody had, or had made a key."""
    public, text = public_file(stack), keys_backup.public_text(break_glass_key.public_key()) + "\n"
    found = versions(stack)
    if found == dict.fromkeys(KEKS, 1) and public.read_text() == text:
        return
    for name in found:
        destroy_key(stack, name)
    for name in KEKS:
        make_key(stack, name)
    public.write_text(text)
    public.chmod(0o644)
    stack.broker.restart()


@pytest.fixture
def vault(new_keks: None, breakable: Stack, db: Database, tmp_path: Path, break_glass_key: X25519PrivateKey) -> Vault:
    """A database with keys in both stores under a KEK that is only its own, and a break-glass key in the safe."""
    made = Vault(breakable, db, tmp_path)
    private_file(made.safe / "break-glass.key", break_glass.write(break_glass_key, PASSPHRASE, CHEAP).decode())
    private_file(made.safe / "break-glass.pub", public_file(breakable).read_text())
    for table, store in (("person", "vault"), ("card", "catalog")):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, secret text)")
        db.sql(f"INSERT INTO {table} SELECT i, '{table} ' || i FROM generate_series(1, 3) i")
        db.sql(f"""CALL envelope.protect('{table}', '["secret"]', 'doomed', '{store}')""")
    # An old version with values under it.
    db.sql("SELECT envelope.rotate('card')")
    db.sql("UPDATE card SET secret = 'newer' WHERE id = 3")
    return made


@pytest.fixture
def rows(db: Database) -> Callable[[], list[str]]:
    """All values, with cold caches."""

    def read() -> list[str]:
        db.sql("SELECT envelope.flush('test')")
        return [value for (value,) in db.sql("SELECT secret FROM person UNION ALL SELECT secret FROM card ORDER BY 1")]

    return read
