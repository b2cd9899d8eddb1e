"""Requests to a KV engine of version 2, and what its answers mean. No raw text of an answer goes further."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any, Literal, NamedTuple, NoReturn

from hvac import exceptions

from pg_envelope import errors
from pg_envelope.broker.kms.providers.vault_errors import Json, data, foreign, number, part, texts

# What the errors say to an application; the broker's own words speak of its configuration.
TOLD: dict[type[errors.EnvelopeError], tuple[str, str]] = {
    errors.KmsUnavailable: (
        "Vault does not answer",
        "Is it up, and reachable from here? Secrets in the cache stay usable for their time.",
    ),
    errors.KmsBusy: ("Vault refuses more requests for now", "Its quota is used up. Try again, or raise the limit."),
    errors.KmsSealed: ("Vault is sealed", "Unseal it: bao operator unseal."),
    errors.KmsDenied: (
        "Vault refused the login or the request",
        "The login's policy must name MOUNT/data/PATH (read; to store also create and update)"
        " and MOUNT/metadata/PATH (list, read).",
    ),
    errors.KmsInvalid: ("Vault refused the request as invalid", "Are mount, path and namespace right?"),
}


class KvVersion(NamedTuple):
    """What the server says of one version. `number` is 0 and `stored_at` is empty where there never was one."""

    state: Literal["there", "absent", "deleted", "destroyed"]
    number: int
    members: Json
    stored_at: str

    def require(self) -> None:
        """Raises KeyNotFound, KeyDestroyed unless the version is there."""
        if self.state == "destroyed":
            raise errors.KeyDestroyed(
                "the secret's newest version was destroyed", hint="pg-envelope secret set stores the next one."
            )
        if self.state == "deleted":
            raise errors.KeyNotFound(
                "the secret's newest version was deleted",
                hint="bao kv undelete brings it back; pg-envelope secret set stores the next one.",
            )
        if self.state == "absent":
            raise errors.KeyNotFound("there is no secret of this name", hint="pg-envelope secret set stores one.")


@contextmanager
def in_own_words() -> Iterator[None]:
    try:
        yield
    except errors.Unavailable as error:
        message, hint = TOLD.get(type(error), (error.message, error.hint))
        raise type(error)(message, detail=error.detail, hint=hint) from None


def mount(client: Any, mount_point: str) -> object:
    """Asks which engine is there. Every login may ask that has any right in the mount. Raises KmsInvalid."""
    try:
        return client.adapter.get(f"/v1/sys/internal/ui/mounts/{mount_point}")
    except exceptions.Forbidden as error:
        if not any("preflight" in text for text in texts(error)):
            raise
        raise errors.KmsInvalid(detail="the mount is not there, or the login has no right to anything in it") from None


def read(client: Any, mount_point: str, path: str, version: int | None) -> KvVersion:
    """Returns one version, or the newest."""
    try:
        found = data(
            client.secrets.kv.v2.read_secret_version(
                path, version=version, mount_point=mount_point, raise_on_deleted_version=True
            )
        )
    except exceptions.InvalidPath as error:
        return _missing(error)
    about = part(found, "metadata")
    return KvVersion("there", number(about, "version"), part(found, "data"), str(about.get("created_time")))


def _missing(error: exceptions.InvalidPath) -> KvVersion:
    """The server's own words say which it is. Another server's 404 must not look like a deleted secret."""
    answer = error.json if isinstance(error.json, dict) else {}
    if answer.get("errors") == []:
        return KvVersion("absent", 0, {}, "")
    if not isinstance(answer.get("data"), dict):
        raise error
    about = part(data(answer), "metadata")
    state: Literal["destroyed", "deleted"] = "destroyed" if about.get("destroyed") is True else "deleted"
    return KvVersion(state, number(about, "version"), {}, str(about.get("created_time")))


def write(client: Any, mount_point: str, path: str, members: Json, newest: int) -> int:
    """Stores the version after `newest`. Raises Conflict."""
    try:
        answer = client.secrets.kv.v2.create_or_update_secret(path, members, cas=newest, mount_point=mount_point)
    except exceptions.InvalidRequest as error:
        if any("check-and-set" in text for text in texts(error)):
            raise errors.Conflict(
                "another version of the secret was stored meanwhile", hint="Read it, and store yours again if need be."
            ) from None
        raise
    return number(data(answer), "version")


def listed(client: Any, mount_point: str, folder: str) -> list[str] | None:
    """Returns the names in a folder, those of folders with '/' at the end; None when nothing is there."""
    try:
        keys = data(client.secrets.kv.v2.list_secrets(folder, mount_point=mount_point)).get("keys")
    except exceptions.InvalidPath as error:
        if isinstance(error.json, dict) and error.json.get("errors") == []:
            return None
        raise
    if not isinstance(keys, list) or not all(isinstance(key, str) and key.strip("/") for key in keys):
        raise foreign()
    return keys


def about(client: Any, mount_point: str, path: str) -> Json:
    """Returns version and time of the newest version."""
    found = data(client.secrets.kv.v2.read_secret_metadata(path, mount_point=mount_point))
    return {"version": number(found, "current_version"), "stored_at": str(found.get("updated_time"))}


def content(members: Json, member: str) -> bytes:
    """Returns a member's text as bytes. Raises BadInput, without the value, for anything but text."""
    found = members.get(member)
    if found is None:
        _refuse("the KV secret has no such member", "Without #MEMBER in the name, the member `value` is read.")
    if not isinstance(found, str):
        _refuse("the member of the KV secret is no text", "Store it as a JSON string.")
    if not found:
        _refuse("the secret is empty", "pg-envelope secret set stores the next version.")
    return _encoded(found)


def text(value: str | bytes) -> str:
    """Returns what JSON can hold. Raises BadInput."""
    try:
        found = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        _refuse("Vault keeps text, and these bytes are none", "Store them as base64, or in the database.")
    _encoded(found)
    return found


def age(stored_at: str, date: str | None) -> float:
    """Returns seconds between two times of the server, so that its clock need not agree with ours. Infinite where a
    time is missing: then nothing counts as still valid.
    """
    try:
        return max(0.0, (parsedate_to_datetime(date or "") - datetime.fromisoformat(stored_at)).total_seconds())
    except (TypeError, ValueError):
        return inf


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        _refuse("the text cannot be written in UTF-8", None)


def _refuse(message: str, hint: str | None) -> NoReturn:
    raise errors.BadInput(message, hint=hint) from None
