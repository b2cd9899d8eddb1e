"""Loads OpenSSL's FIPS provider into `cryptography`, and refuses by name what the provider does not have.

`cryptography` brings an OpenSSL of its own, which reads its configuration once, as it is loaded. So the provider comes
before the first import of `cryptography`. Only that import sees the configuration: the OpenSSL of the server and of
Python are other releases, and would not start with it.
"""

from __future__ import annotations

import os
import sys

from pg_envelope import errors

CONFIG = "/etc/pg_envelope/fips.cnf"
VARIABLE = "OPENSSL_CONF"
HINT = "docs/fips.md says how to make the file. A server's sessions read it when they begin, a broker when it starts."
# `fips=yes` is the rule for every algorithm that is asked for later: what the provider does not have is not found.
FRAME = """\
openssl_conf = begin
[begin]
providers = providers
alg_section = algorithms
[providers]
fips = fips_sect
base = base_sect
[base_sect]
activate = 1
[algorithms]
default_properties = fips=yes
{}
[fips_sect]
activate = 1
"""
MOST_BYTES = 1 << 16


class _Tried:
    """Remembers why the provider could not be loaded: the second attempt of a process has no chance."""

    failure: errors.NotConfigured | None = None


def activate(config: str = CONFIG) -> None:
    """Loads the provider that the file describes. Raises NotConfigured, in this process from then on each time."""
    if _Tried.failure is None and not active():
        _Tried.failure = _loaded(config)
    if _Tried.failure is not None:
        raise errors.NotConfigured(_Tried.failure.message, _Tried.failure.detail, _Tried.failure.hint)


def active() -> bool:
    """Tells whether `cryptography` uses the provider. It does not import `cryptography`."""
    if "cryptography" not in sys.modules:
        return False
    from cryptography.hazmat.bindings._rust import openssl

    return openssl.is_fips_enabled()


def python_active() -> bool:
    """Tells whether Python's own OpenSSL is in FIPS mode: it does TLS with the KMS and the HMAC of search tokens."""
    from _hashlib import get_fips_mode

    return get_fips_mode() != 0


def refuse(algorithm: str, instead: str) -> None:
    """Raises Unsupported while the provider is active. `instead` is what a person can do."""
    if active():
        raise errors.Unsupported(f"{algorithm} is not available while the FIPS provider is active", hint=instead)


def _loaded(config: str) -> errors.NotConfigured | None:
    if "cryptography" in sys.modules:
        return _problem("cryptography was imported without it", "Other code of this process was faster. Connect again.")
    try:
        text = _read(config)
    except errors.NotConfigured as error:
        return error
    _import(FRAME.format(text))
    return None if _works() else _problem(f"OpenSSL does not take what {config} says", HINT)


def _problem(detail: str, hint: str) -> errors.NotConfigured:
    return errors.NotConfigured("the FIPS provider cannot be loaded", detail, hint)


def _read(config: str) -> str:
    """Returns the file's text. Who may write it chooses a module that this process runs."""
    try:
        with open(config, encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            text = file.read(MOST_BYTES)
    except (OSError, UnicodeDecodeError):
        raise _problem(f"{config} cannot be read", HINT) from None
    if found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
        raise _problem(f"{config} may be written by others", f"chown root {config}; chmod 644 {config}")
    return text


def _import(config: str) -> None:
    """Imports the binding while the variable names the configuration. The configuration is in memory only."""
    before = os.environ.get(VARIABLE)
    memory = os.memfd_create("pg_envelope-fips")
    try:
        os.write(memory, config.encode())
        os.environ[VARIABLE] = f"/proc/self/fd/{memory}"
        import cryptography.hazmat.bindings._rust  # noqa: F401
    finally:
        os.close(memory)
        _restore(before)


def _restore(before: str | None) -> None:
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before


def _works() -> bool:
    """Without the provider, the rule `fips=yes` alone would leave no algorithm at all."""
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.bindings._rust import openssl

    try:
        openssl.aead.AESGCM(bytes(32)).encrypt(bytes(12), b"", None)
    except (UnsupportedAlgorithm, InternalError, ValueError):
        return False
    return openssl.is_fips_enabled()
