"""Turns what the Azure SDK raises into the broker's errors; no raw text goes further."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from azure.core import exceptions

from pg_envelope import errors

INVALID, UNAUTHORISED, FORBIDDEN, TOO_MANY, SERVER_ERROR = 400, 401, 403, 429, 500


class BadRequest(errors.KmsInvalid):
    """The vault refused with 400. For an unwrap that means a wrap that does not open."""


@contextmanager
def translated() -> Iterator[None]:
    """Every exception of the SDK inside becomes an EnvelopeError, with nothing chained to it."""
    try:
        yield
    except exceptions.ClientAuthenticationError:
        raise errors.KmsDenied(
            "the broker cannot log in to the KMS", detail="no identity was found, or it was refused"
        ) from None
    except exceptions.ResourceNotFoundError:
        raise errors.KekUnknown(
            "the KMS has no such key", hint="See the key of [kek.NAME], and vault_url of [kms.NAME]."
        ) from None
    except (exceptions.ServiceRequestTimeoutError, exceptions.ServiceResponseTimeoutError):
        raise errors.KmsUnavailable(detail="no answer within timeout_ms") from None
    except exceptions.HttpResponseError as error:
        raise _from_answer(error.status_code or SERVER_ERROR) from None
    except exceptions.AzureError:
        raise errors.KmsUnavailable(detail="the connection failed") from None


def _from_answer(status: int) -> errors.EnvelopeError:
    if status == INVALID:
        return BadRequest()
    if status in (UNAUTHORISED, FORBIDDEN):
        return errors.KmsDenied()
    if status == TOO_MANY:
        return errors.KmsBusy()
    if status >= SERVER_ERROR:
        return errors.KmsUnavailable(detail=f"it answered with an error of its own ({status})")
    return errors.KmsInvalid()
