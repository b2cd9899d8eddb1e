"""Provider `keyring`: KEKs in a file sealed with a passphrase, for machines without a KMS. FORMAT.md 2.1 and 2.3.

A person who can put back an older copy of the file undoes rotations, and nothing detects that.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pg_envelope import errors
from pg_envelope.broker.kms.providers import base, seal
from pg_envelope.broker.settings.kms import KeyringSettings as Settings
from pg_envelope.broker.settings.wants import NAME
from pg_envelope.broker.system import files

FORMAT = "pg_envelope keyring 1"
PREFIX = "keyring"
COST = 1 << 17
COSTS = range(1 << 14, (1 << 20) + 1)
BLOCK_SIZE, PARALLEL = 8, 1
NONCE_BYTES = 12
PLACE = "A keyring needs a directory that the broker can write to. Under the systemd unit that is /var/lib/pg_envelope."
SALT_BYTES = 32

Keks = dict[str, dict[str, str]]


class Keyring(base.OneByOne):
    """The KEKs of one keyring file. The file is read again when another process changed it."""

    batch = 1000
    stores = frozenset({"catalog"})
    store = None

    def __init__(self, settings: Settings) -> None:
        self._path = settings.keyring_file
        self._passphrase_file = settings.passphrase_file
        self._lock = threading.Lock()
        self._keks: Keks = {}
        self._stamp: tuple[int, int] | None = None

    def describe(self, key: str) -> base.Description:
        return base.Description(_newest(self._versions(key)))

    def rotate(self, key: str) -> int:
        return rotate(self._path, files.read_secret(self._passphrase_file), key)

    def token_seconds(self) -> float | None:
        return None

    def tls(self) -> str | None:
        return base.NO_NETWORK

    def close(self) -> None:
        self._keks, self._stamp = {}, None

    def _wrap(self, key: str, item: base.Plain) -> str:
        return _wrapped(self._versions(key), item)

    def _unwrap(self, key: str, item: base.Item) -> bytes:
        return _opened(self._versions(key), item)

    def _versions(self, key: str) -> dict[str, str]:
        with self._lock:
            self._reload()
            if key not in self._keks:
                raise errors.KekUnknown("the keyring has no such key")
            return self._keks[key]

    def _reload(self) -> None:
        try:
            found = os.stat(self._path)
            stamp = (found.st_ino, found.st_mtime_ns)
            if stamp != self._stamp:
                self._keks = _open(self._path, files.read_secret(self._passphrase_file)).keks
                self._stamp = stamp
        except OSError as error:
            raise errors.KmsUnavailable("the keyring cannot be read", detail=error.strerror) from None
        except errors.NotConfigured as error:
            raise errors.KmsDenied("the keyring cannot be opened", detail=error.message, hint=error.hint) from None


def check_writable(path: Path) -> None:
    """Raises NotConfigured when a rotation could not write the keyring anew."""
    if not os.access(path.parent, os.W_OK):
        raise errors.NotConfigured(f"the keyring {path} cannot rotate: its directory is not writable", hint=PLACE)


def create_keyring(path: Path, passphrase: str, cost: int = COST) -> None:
    """Makes an empty keyring, mode 0600; `cost` is scrypt's n. Raises NotConfigured when the file exists."""
    header = {"format": FORMAT, "kdf": _kdf(cost)}
    with _locked(path):
        if path.exists():
            raise errors.NotConfigured(f"{path} exists already")
        _save(path, OpenKeyring(header, _sealing_key(header, passphrase), {}), {})


def add_kek(path: Path, passphrase: str, name: str) -> None:
    """Adds a KEK at version 1. Raises NotConfigured when the keyring does not open or has the name."""
    if not NAME.match(name):
        raise errors.NotConfigured("a KEK's name may hold letters, digits, '.', '_' and '-' only")
    with _locked(path):
        found = _open(path, passphrase)
        if name in found.keks:
            raise errors.NotConfigured(f"the keyring has a KEK named {name} already")
        _save(path, found, {**found.keks, name: {"1": _new_key()}})


def rotate(path: Path, passphrase: str, name: str) -> int:
    """Adds a version to a KEK and returns its number. Raises KekUnknown, NotConfigured."""
    with _locked(path):
        found = _open(path, passphrase)
        if name not in found.keks:
            raise errors.KekUnknown("the keyring has no such key")
        versions = found.keks[name]
        version = _newest(versions) + 1
        _save(path, found, {**found.keks, name: {**versions, str(version): _new_key()}})
        return version


def _wrapped(versions: dict[str, str], item: base.Plain) -> str:
    version = _newest(versions)
    return seal.wrap(PREFIX, version, _bytes(versions[str(version)]), item)


def _opened(versions: dict[str, str], item: base.Item) -> bytes:
    version, sealed = base.parse(PREFIX, item.wrapped)
    if str(version) not in versions:
        raise errors.UnwrapFailed()
    return seal.unwrap(_bytes(versions[str(version)]), sealed, item.context)


@dataclass(frozen=True)
class OpenKeyring:
    """A keyring in the clear. `sealing_key` takes most of a second to derive, so it is kept for the next save."""

    header: dict[str, Any]
    sealing_key: bytes
    keks: Keks


def _open(path: Path, passphrase: str) -> OpenKeyring:
    """Raises NotConfigured, with one text for a wrong passphrase and a changed file."""
    content = files.read_private(path)
    try:
        held = json.loads(content)
        header = {"format": held["format"], "kdf": held["kdf"]}
        key = _sealing_key(header, passphrase)
        plain = AESGCM(key).decrypt(_bytes(held["nonce"]), _bytes(held["sealed"]), _aad(header))
        keks: Keks = json.loads(plain)["keks"]
    except (ValueError, KeyError, TypeError, InvalidTag):
        raise errors.NotConfigured(
            f"the keyring {path} does not open", hint="The passphrase is another one, or the file was changed."
        ) from None
    return OpenKeyring(header, key, keks)


def _save(path: Path, opened: OpenKeyring, keks: Keks) -> None:
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(opened.sealing_key).encrypt(nonce, json.dumps({"keks": keks}).encode(), _aad(opened.header))
    _replace(path, json.dumps({**opened.header, "nonce": _text(nonce), "sealed": _text(sealed)}).encode())


def _replace(path: Path, content: bytes) -> None:
    """Replaces the file all or nothing, and on the disk before it counts: a lost KEK version loses data."""
    file, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(file, "wb") as out:
            _keep_owner(path, out.fileno())
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    files.sync_folder(path.parent)


def _keep_owner(path: Path, file: int) -> None:
    """Keeps the owner: an administrator who rotates as root must not take the keyring from the broker."""
    if os.geteuid() == 0 and path.exists():
        found = os.stat(path)
        os.fchown(file, found.st_uid, found.st_gid)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one writer in at a time. It locks the directory, because the file is replaced and a lock would stay on the
    old one.

    Raises NotConfigured where the keyring cannot be written.
    """
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)
    except OSError as error:
        raise errors.NotConfigured(f"the keyring {path} cannot be written", detail=error.strerror, hint=PLACE) from None


def _kdf(cost: int) -> dict[str, Any]:
    return {"name": "scrypt", "n": cost, "r": BLOCK_SIZE, "p": PARALLEL, "salt": _text(os.urandom(SALT_BYTES))}


def _sealing_key(header: dict[str, Any], passphrase: str) -> bytes:
    kdf = header["kdf"]
    # The file's word on the cost is not trusted: it could ask for no work, or for all memory.
    fit = header["format"] == FORMAT and (kdf["name"], kdf["r"], kdf["p"]) == ("scrypt", BLOCK_SIZE, PARALLEL)
    if not fit or kdf["n"] not in COSTS:
        raise ValueError("not this format")
    return Scrypt(salt=_bytes(kdf["salt"]), length=32, n=kdf["n"], r=BLOCK_SIZE, p=PARALLEL).derive(passphrase.encode())


def _aad(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _new_key() -> str:
    return _text(os.urandom(32))


def _newest(versions: dict[str, str]) -> int:
    return max(map(int, versions))


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
