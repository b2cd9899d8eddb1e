"""Turns what hvac and requests raise into the broker's errors.

No raw text goes further, because it may hold a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from hvac import exceptions

from pg_envelope import errors
from pg_envelope.broker.kms.providers import reach

Json = dict[str, Any]
# Versions and seconds fit into the types in which they are stored.
MOST_NUMBER = 10**9


@contextmanager
def translated() -> Iterator[None]:
    """Every exception of hvac and requests inside becomes an EnvelopeError, with nothing chained to it."""
    try:
        yield
    except exceptions.VaultError as error:
        raise _from_vault(error) from None
    except requests.exceptions.Timeout:
        raise errors.KmsUnavailable(detail="no answer within timeout_ms") from None
    except requests.exceptions.RequestException as error:
        raise errors.KmsUnavailable(detail=reach.why(error)) from None


def texts(error: exceptions.VaultError) -> list[str]:
    """Returns the error texts of an answer in Vault's form; empty when it has another form."""
    found = error.json.get("errors") if isinstance(error.json, dict) else None
    return [str(text) for text in found] if isinstance(found, list) else []


def data(answer: object) -> Json:
    """Returns the `data` of an answer. Raises KmsUnavailable when it has another form, such as a redirect's."""
    return part(answer, "data")


def part(answer: object, name: str) -> Json:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        raise foreign()
    return found


def number(answer: Json, name: str) -> int:
    """Returns a member that counts something, or 0 when it is not there. Raises KmsUnavailable."""
    found = answer.get(name) or 0
    if type(found) is not int or not 0 <= found < MOST_NUMBER:
        raise foreign()
    return found


def text(answer: Json, name: str) -> str:
    """Returns a member. Raises KmsUnavailable when it is missing or empty."""
    found = answer.get(name)
    if not isinstance(found, str) or not found:
        raise foreign()
    return found


def foreign() -> errors.KmsUnavailable:
    return errors.KmsUnavailable(detail="the answer is not that of Vault or OpenBao")


def _from_vault(error: exceptions.VaultError) -> errors.EnvelopeError:
    said = " ".join(texts(error))
    if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
        return errors.KmsDenied()
    if isinstance(error, exceptions.VaultDown) and "sealed" in said:
        return errors.KmsSealed()
    if isinstance(error, exceptions.InvalidRequest) and "key not found" in said:
        return errors.KekUnknown(
            "the KMS has no such key", hint="Compare the key of [kek.NAME] with the transit mount."
        )
    if isinstance(error, exceptions.InvalidPath) and "no handler for route" in said:
        return errors.KmsInvalid(detail="a mount is missing: see transit_mount, kv_mount, auth mount and namespace")
    if isinstance(error, exceptions.InvalidPath) and "namespace not found" in said:
        return errors.KmsDenied(detail="there is no such namespace")
    return _not_usable(error)


def _not_usable(error: exceptions.VaultError) -> errors.EnvelopeError:
    if isinstance(error, exceptions.RateLimitExceeded):
        return errors.KmsBusy()
    if isinstance(error, exceptions.VaultNotInitialized):
        return errors.KmsUnavailable(detail="it is not initialised")
    if isinstance(error, exceptions.InvalidRequest | exceptions.InvalidPath) and _in_vault_form(error):
        return errors.KmsInvalid()
    return errors.KmsUnavailable(detail=f"it answered with an error ({type(error).__name__})")


def _in_vault_form(error: exceptions.VaultError) -> bool:
    return isinstance(error.json, dict)
