"""Takes the break-glass key from its holders, and opens DEKs of a backup with it. It never writes or prints either."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import break_glass, derivation, errors, keys_backup
from pg_envelope_client import output, secret_file
from pg_envelope_client.keys_backup import shares
from pg_envelope_client.keys_backup.backup_file import Reader, SealedDek
from pg_envelope_client.problems import Problem, usage


@dataclass(frozen=True)
class Holder:
    """Tells how the private key comes: in a file with its passphrase, or in shares."""

    key: Path | None
    passphrase_file: Path | None
    shares_files: Sequence[Path]
    ask_shares: bool

    @property
    def given(self) -> bool:
        return self.key is not None or bool(self.shares_files) or self.ask_shares

    def private_key(self) -> X25519PrivateKey:
        """Raises Problem."""
        if (self.key is not None) == (bool(self.shares_files) or self.ask_shares):
            raise usage("say how the break-glass key comes: --key FILE, --shares-file FILE ... or --ask-shares")
        if self.key is not None:
            return _opened(secret_file.read(self.key), passphrase(self.passphrase_file))
        pile = _from_files(self.shares_files) if self.shares_files else _prompted()
        try:
            return X25519PrivateKey.from_private_bytes(pile.key())
        except ValueError:
            raise Problem("these shares make no break-glass key") from None


def closed(private: X25519PrivateKey, typed: str) -> bytes:
    """Returns the key file's content. Raises Problem when the passphrase is short."""
    try:
        return break_glass.write(private, typed)
    except errors.BadInput as error:
        raise Problem(error.message, hint=error.hint) from None


def _opened(content: bytes, typed: str) -> X25519PrivateKey:
    try:
        return break_glass.read(content, typed)
    except errors.BadInput as error:
        raise Problem(error.message) from None


def passphrase(path: Path | None, *, twice: bool = False) -> str:
    """Returns the passphrase, from a private file or typed unseen. Raises Problem."""
    if path is not None:
        return secret_file.passphrase(secret_file.read(path), path)
    if not sys.stdin.isatty():
        raise usage("there is no terminal to ask for the passphrase", hint="--passphrase-file FILE")
    typed = getpass.getpass("Passphrase of the break-glass key: ")
    if twice and getpass.getpass("Again: ") != typed:
        raise Problem("the passphrases differ")
    return typed


def _lines(path: Path) -> list[str]:
    text = secret_file.passphrase(secret_file.read(path), path)
    return [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]


def _from_files(paths: Sequence[Path]) -> shares.Pile:
    """Names each share by its file and its place in it."""
    pile = shares.Pile()
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            pile.add(line, f"share {number} of {path}")
    return pile


def _prompted() -> shares.Pile:
    """Asks for one share after the other, unseen, until there are enough or the line is empty.

    Asks again after a slip.
    """
    if not sys.stdin.isatty():
        raise usage("there is no terminal to ask for shares", hint="--shares-file FILE")
    pile, number = shares.Pile(), 1
    while not pile.enough and (line := getpass.getpass(f"Share {number} (empty: no more): ").strip()):
        try:
            pile.add(line, f"share {number}")
            number += 1
        except Problem as problem:
            output.print_problem(problem)
    return pile


class OpenedBackup:
    """Opens the DEKs of a backup, one at a time."""

    def __init__(self, backup: Reader, private: X25519PrivateKey) -> None:
        """Raises Problem for another key than the one that the backup was made for."""
        if keys_backup.public_text(private.public_key()) != backup.head.public_key:
            raise Problem("the backup was made for another break-glass key", detail=f"made {backup.head.made}")
        self._private = private
        self._place = keys_backup.SealPlace(keys_backup.BACKUP, backup.head.environment, backup.head.database)

    def dek(self, line: SealedDek) -> bytes | None:
        """Returns the DEK, or None when it does not open, or does not fit its fingerprint."""
        try:
            dek = keys_backup.unseal(self._private, self._place, line.dek_id, line.sealed)
        except errors.EnvelopeError:
            return None
        return dek if derivation.same(derivation.fingerprint(dek, line.dek_id), line.fingerprint) else None
