"""Finds the broker's socket, and the users who may stand behind it; tells whether sessions load the FIPS provider.

The place comes from the postmaster's environment or from the administrator's file, never from a setting. A user who
could point a session at another socket could give the session keys of the user's own.
"""

from __future__ import annotations

import os

from pg_envelope import errors, fips
from pg_envelope.typed import NamedTuple

FILE = "/etc/pg_envelope/backend.conf"
DEFAULT_SOCKET = "/run/pg_envelope/broker.sock"


class Location(NamedTuple):
    """The socket's path, and the user ids whose process may be the broker."""

    socket: str
    broker_uids: frozenset[int]

    @property
    def epoch(self) -> str:
        return os.path.join(os.path.dirname(self.socket), "epoch")


def locate(environ: dict[str, str] | os._Environ[str] = os.environ, file: str = FILE) -> Location:
    """Returns the location. The environment comes before the file. Without either it is the default socket, of root
    or our own user.
    """
    settings = _read(file)
    socket = environ.get("PG_ENVELOPE_SOCKET") or settings.get("socket") or DEFAULT_SOCKET
    uid = environ.get("PG_ENVELOPE_BROKER_UID") or settings.get("broker_uid")
    return Location(socket, frozenset({0, os.geteuid(), *_uids(uid)}))


def fips_config(environ: dict[str, str] | os._Environ[str] = os.environ, file: str = FILE) -> str | None:
    """Returns the file that describes the FIPS provider, or None when nobody asks for one. Raises NotConfigured."""
    settings = _read(file)
    asked = environ.get("PG_ENVELOPE_FIPS") or settings.get("fips") or "false"
    if asked not in ("true", "false"):
        raise errors.NotConfigured("fips must be true or false", hint="PG_ENVELOPE_FIPS, or fips in backend.conf")
    config = environ.get("PG_ENVELOPE_FIPS_CONFIG") or settings.get("fips_config") or fips.CONFIG
    return config if asked == "true" else None


def _uids(text: str | None) -> list[int]:
    if not text:
        return []
    if not text.isdecimal():
        raise errors.NotConfigured("the broker's user id is not a number", hint="PG_ENVELOPE_BROKER_UID or broker_uid")
    return [int(text)]


def _read(file: str) -> dict[str, str]:
    """Reads `name = value` lines, in which # begins a comment. Refuses a file that others may write."""
    try:
        with open(file, encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno())
            lines = [line.partition("#")[0] for line in opened]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError):
        raise errors.NotConfigured("backend.conf cannot be read", detail=file) from None
    if mode.st_mode & 0o022 or mode.st_uid not in (0, os.geteuid()):
        raise errors.NotConfigured("backend.conf may be written by others", detail=file, hint="chown root, chmod 644")
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs}
