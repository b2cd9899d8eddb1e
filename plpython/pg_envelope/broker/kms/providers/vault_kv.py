"""Keeps wrapped DEKs in KV version 2: the store 'vault'. FORMAT.md section 2.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hvac
from hvac import exceptions

from pg_envelope import errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers.vault_errors import data, number, part, texts
from pg_envelope.checkpoints import key_id

# So entries have the order of their sizes, as names.
SIZE_DIGITS = 12
# Origin, number of lines and root. Without reads, only the time of a checkpoint differs from that of the one before.
SAME_LINES = 3

Call = Callable[[Callable[[hvac.Client], Any]], Any]


class KvStore:
    """Entries below one path of one KV mount; `call` runs a function with a logged-in client."""

    def __init__(self, call: Call, mount: str, path: str) -> None:
        self._call, self._mount, self._path = call, mount, path

    def read(self, path: str) -> base.Entry:
        found = data(self._call(lambda client: _read(client, self._mount, f"{self._path}/{path}")))
        held, version = part(found, "data"), number(part(found, "metadata"), "version")
        wrapped = held.get("wrapped")
        if not isinstance(wrapped, str):
            raise errors.UnwrapFailed(detail="the store's entry holds no wrapped DEK")
        return base.Entry(wrapped, version, str(held.get("kek", "")))

    def create(self, path: str, wrapped: str, kek: str, fingerprint: bytes) -> None:
        self._write(path, wrapped, kek, fingerprint, 0)

    def replace(self, path: str, wrapped: str, kek: str, fingerprint: bytes, version: int) -> None:
        self._write(path, wrapped, kek, fingerprint, version)

    def destroy(self, path: str) -> None:
        place = {"path": f"{self._path}/{path}", "mount_point": self._mount}
        self._call(lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(**place))

    def keep_note(self, environment: str, note: str) -> None:
        """Keeps a checkpoint for ever, in an entry of its own beside the store: FORMAT.md section 11.3.

        Raises StoreConflict where another checkpoint of as many lines is.
        """
        size = note.splitlines()[1]
        # A new ledger has a new key, and may have as many lines as an old one had.
        place = f"{self._path}_anchor/{environment}/{key_id(note)}/{size:0>{SIZE_DIGITS}}"
        there = self._call(lambda client: _note(client, self._mount, place))
        if there is None:
            there = self._new_note(place, note)
        if there.splitlines()[:SAME_LINES] != note.splitlines()[:SAME_LINES]:
            raise errors.StoreConflict(f"the anchor has another checkpoint of {size} lines: the ledger was changed")

    def _new_note(self, place: str, note: str) -> str:
        """Returns the note that is there afterwards: the answer to an earlier try of this one may have been lost."""
        try:
            self._call(lambda client: _write(client, self._mount, place, {"note": note}, 0))
        except errors.StoreConflict:
            return self._call(lambda client: _note(client, self._mount, place)) or ""
        return note

    def _write(self, path: str, wrapped: str, kek: str, fingerprint: bytes, version: int) -> None:
        secret = {"wrapped": wrapped, "kek": kek, "fingerprint": fingerprint.hex()}
        self._call(lambda client: _write(client, self._mount, f"{self._path}/{path}", secret, version))


def _read(client: hvac.Client, mount: str, path: str) -> object:
    try:
        return client.secrets.kv.v2.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
    except exceptions.InvalidPath as error:
        if _is_destroyed(error):
            raise errors.KeyDestroyed() from None
        if _says_not_there(error):
            raise errors.KeyNotFound() from None
        raise


def _note(client: hvac.Client, mount: str, path: str) -> str | None:
    try:
        found = data(_read(client, mount, path))
    except errors.KeyNotFound:
        return None
    return str(part(found, "data").get("note"))


def _says_not_there(error: exceptions.InvalidPath) -> bool:
    """Tells whether the store's own words say so. A missing mount or another server's 404 must not look like a deleted
    key.
    """
    answer = error.json if isinstance(error.json, dict) else {}
    return answer.get("errors") == [] or isinstance(_metadata(answer), dict)


def _is_destroyed(error: exceptions.InvalidPath) -> bool:
    found = _metadata(error.json if isinstance(error.json, dict) else {})
    return isinstance(found, dict) and found.get("destroyed") is True


def _metadata(answer: dict[str, Any]) -> object:
    held = answer.get("data")
    return held.get("metadata") if isinstance(held, dict) else None


def _write(client: hvac.Client, mount: str, path: str, secret: dict[str, str], version: int) -> None:
    try:
        client.secrets.kv.v2.create_or_update_secret(path, secret, cas=version, mount_point=mount)
    except exceptions.InvalidRequest as error:
        if any("check-and-set" in text for text in texts(error)):
            raise errors.StoreConflict() from None
        raise
