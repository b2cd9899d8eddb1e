"""pgcrypto itself and envelope_pgcrypto side by side in one database, and keys made by GnuPG."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.stack import Stack
from tests.fix_stack import COPY, NAMES, Database


@pytest.fixture(scope="module")
def both(stack: Stack) -> Iterator[Database]:
    """pgcrypto in schema `original`, ours in `envelope_pgcrypto`; secrets `pass` (text) and `raw` (16 bytes)."""
    name = f"test_{os.getpid()}_{next(NAMES)}"
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} {COPY}")
    database = Database(stack, name)
    database.sql("CREATE SCHEMA original")
    database.sql("CREATE EXTENSION pgcrypto SCHEMA original")
    database.sql("GRANT USAGE ON SCHEMA original TO PUBLIC")
    database.sql("SELECT envelope.import_secret('pass', %s::text)", PASS)
    database.sql("SELECT envelope.import_secret('raw', %s::bytea)", RAW)
    yield database
    database.close()
    with stack.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


PASS = "correct horse battery staple"
RAW = bytes(range(16))


@dataclass(frozen=True)
class Gpg:
    """GnuPG with a home of its own."""

    home: Path

    def run(self, *words: str, feed: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", "--pinentry-mode", "loopback"]
        done = subprocess.run([*command, *words], input=feed, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @property
    def old_ciphers(self) -> list[str]:
        """GnuPG 2.4 encrypts with 3DES only for those who insist; 2.2 does it, and has no such option."""
        option = "--allow-old-cipher-algos"
        return [option] if option in self.run("--dump-options").decode().split() else []

    def make(self, name: str, kind: str, passphrase: str = "") -> None:
        protection = f"Passphrase: {passphrase}" if passphrase else "%no-protection"
        self.run("--gen-key", feed=f"{kind}\nName-Real: {name}\n{protection}\n%commit\n".encode())

    def public(self, name: str) -> bytes:
        return self.run("--export", name)

    def secret(self, name: str, passphrase: str = "") -> bytes:
        return self.run("--passphrase", passphrase, "--export-secret-keys", name)


RSA = "Key-Type: RSA\nKey-Length: 2048\nSubkey-Type: RSA\nSubkey-Length: 2048\nSubkey-Usage: encrypt"
ELGAMAL = "Key-Type: DSA\nKey-Length: 1024\nSubkey-Type: ELG-E\nSubkey-Length: 1024"
SIGN_ONLY = "Key-Type: RSA\nKey-Length: 2048\nKey-Usage: sign"


@pytest.fixture(scope="session")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    """Keys: `rsa`, `locked` (passphrase PASS), `elgamal`, and `signer`, which cannot encrypt."""
    if shutil.which("gpg") is None:
        pytest.skip("no gpg here: apt-get install gnupg")
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)
    made = Gpg(home)
    try:
        made.make("rsa", RSA)
        made.make("locked", RSA, PASS)
        made.make("elgamal", ELGAMAL)
        made.make("signer", SIGN_ONLY)
        yield made
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
