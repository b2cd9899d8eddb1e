"""Checks names that go into policy paths and configuration, so that none can widen a path."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pg_envelope.loopback import is_loopback
from pg_envelope_client.problems import usage

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_POLICY = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_ENVIRONMENT = re.compile(r"[A-Za-z0-9._-]{1,63}")


def kek(value: str) -> str:
    return _checked(_NAME, value, "--kek", "letters, digits, - and _")


def key(value: str) -> str:
    """Checks a KEK's name in the KMS, as it may stand in a configuration that a person edited."""
    return _checked(_KEY, value, "key", "letters, digits, . - and _")


def policy(value: str) -> str:
    # The server folds policy names to lower case, so two spellings would be one policy.
    return _checked(_POLICY, value, "--policy-name", "lower-case letters, digits, - and _")


def environment(value: str) -> str:
    return _checked(_ENVIRONMENT, value, "--environment", "letters, digits, . - and _")


def path(value: str, option: str) -> str:
    """Checks a mount or a path below one.

    `*`, `+` and `..` are refused, because they mean something else in a policy.
    """
    return _checked(_PATH, value.strip("/"), option, "letters, digits, . - and _, parts joined by /")


def namespace(value: str) -> str:
    return path(value, "--namespace") if value else ""


def address(value: str) -> str:
    """Checks the KMS's URL, which has no path. Plain http is for this machine only, since a token travels over it."""
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise usage("--address is not the address of a KMS", hint="For example: https://vault.example:8200")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise usage("--address: a token must not travel over plain http", hint="Use https, with --ca-file")
    return value.rstrip("/")


def _checked(form: re.Pattern[str], value: str, option: str, allowed: str) -> str:
    if not form.fullmatch(value):
        raise usage(f"{option}: {value!r} is not a usable name", hint=f"Allowed: {allowed}")
    return value
