"""Holds the refusals that all types of the configuration share."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from pg_envelope import errors
from pg_envelope.loopback import is_loopback

NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
NAME_FORM = "letters, digits, '.', '_' and '-' only"
MOUNT = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*\Z")


def refuse(problem: str) -> errors.NotConfigured:
    return errors.NotConfigured(f"broker configuration: {problem}")


def want(true: bool, problem: str) -> None:
    if not true:
        raise refuse(problem)


def address(text: str, name: str, kind: str = "an IP address") -> tuple[str, int]:
    """Returns (host, port) of "127.0.0.1:9464" or "[::1]:9464". Raises NotConfigured, which names the `kind`."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise refuse(f'{name} must be {kind} and a port, such as "127.0.0.1:9464"') from None
    want(port.isdecimal() and int(port) < 65536, f"{name} has no valid port")
    return host, int(port)


def want_timeout(timeout_ms: int) -> None:
    want(timeout_ms > 0, "kms timeout_ms must be above 0")


def want_file(path: str, name: str) -> None:
    """Checks the file of a setting that may be empty."""
    want(not path or Path(path).is_file(), f"kms {name}: there is no file {path}")


def want_encrypted(address: str, name: str = "address") -> None:
    """Raises NotConfigured unless it is an https:// URL without a password in it. http:// is for loopback addresses."""
    parts = urlsplit(address)
    want(parts.scheme in ("http", "https") and bool(parts.hostname), f"kms {name} must be an https:// URL")
    want(parts.username is None and parts.password is None, f"kms {name} must not hold a user or password")
    if parts.scheme == "http":
        want(is_loopback(parts.hostname or ""), f"kms {name} may be http:// on a loopback address only")
