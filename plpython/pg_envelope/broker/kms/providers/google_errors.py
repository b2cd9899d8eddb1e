"""Turns what Google's libraries raise into the broker's errors; no raw text goes further."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from pg_envelope import errors

DOWN = (api.ServerError, api.RetryError)


class GoogleWrongState(errors.KmsInvalid):
    """KMS refused with 400: the wrap does not open, or the version is not enabled."""


@contextmanager
def translated() -> Iterator[None]:
    """Every exception of Google's libraries inside becomes an EnvelopeError, with nothing chained to it."""
    try:
        yield
    except api.NotFound:
        raise errors.KekUnknown(
            "the KMS has no such key", hint="See the key of [kek.NAME], and key_ring of [kms.NAME]."
        ) from None
    except (api.Forbidden, api.Unauthorized):
        raise errors.KmsDenied() from None
    except api.TooManyRequests:
        raise errors.KmsBusy() from None
    except api.BadRequest:
        raise GoogleWrongState() from None
    except DOWN:
        raise errors.KmsUnavailable(detail="it answered with an error of its own") from None
    except api.GoogleAPIError:
        raise errors.KmsInvalid() from None
    except auth.DefaultCredentialsError:
        raise errors.KmsDenied(
            "the broker cannot log in to the KMS", detail="there are no application default credentials"
        ) from None
    except auth.TransportError:
        raise errors.KmsUnavailable(detail="the login service does not answer") from None
    except auth.RefreshError as error:
        raise _login(error) from None
    except requests.exceptions.Timeout:
        raise errors.KmsUnavailable(detail="no answer within timeout_ms") from None
    except (requests.exceptions.RequestException, auth.GoogleAuthError):
        raise errors.KmsUnavailable(detail="the connection failed") from None


def _login(error: auth.RefreshError) -> errors.EnvelopeError:
    if error.retryable:
        return errors.KmsUnavailable(detail="the login service does not answer")
    return errors.KmsDenied("the broker cannot log in to the KMS", detail="the login service refused the credentials")
