"""Turns what botocore raises into the broker's errors; the raw text goes no further, because it may hold a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions

from pg_envelope import errors

DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
THROTTLED = {
    "LimitExceededException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
DOWN = {
    "DependencyTimeoutException",
    "InternalFailure",
    "KMSInternalException",
    "KeyUnavailableException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
}
BAD_WRAP = {"IncorrectKeyException", "InvalidCiphertextException"}
NO_CREDENTIALS = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound)
FORBIDDEN, SERVER_ERROR = (401, 403), 500


class AwsWrongState(errors.KmsDenied):
    """The key's state does not allow the request; only `describe_key` tells which state it is."""


@contextmanager
def translated() -> Iterator[None]:
    """Every exception of botocore inside becomes an EnvelopeError, with nothing chained to it."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _from_answer(error) from None
    except NO_CREDENTIALS:
        raise errors.KmsDenied(
            "the broker cannot log in to the KMS", detail="boto3 finds no credentials, or not this profile"
        ) from None
    except (exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError):
        raise errors.KmsUnavailable(detail="the source of the AWS credentials does not answer") from None
    except (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError):
        raise errors.KmsUnavailable(detail="no answer within timeout_ms") from None
    except exceptions.SSLError:
        raise errors.KmsUnavailable(detail="TLS failed: is ca_file the CA of the endpoint?") from None
    except (exceptions.BotoCoreError, exceptions.HTTPClientError):
        raise errors.KmsUnavailable(detail="the connection failed") from None


def code(error: exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _from_answer(error: exceptions.ClientError) -> errors.EnvelopeError:
    found, status = code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if found in BAD_WRAP:
        return errors.UnwrapFailed()
    if found in DENIED or status in FORBIDDEN:
        return errors.KmsDenied()
    if found == "DisabledException":
        return errors.KmsDenied(detail="the KMS key is disabled")
    if found == "KMSInvalidStateException":
        return AwsWrongState(detail="the KMS key's state does not allow it")
    if found == "NotFoundException":
        return errors.KekUnknown("the KMS has no such key", hint="See the key of [kek.NAME], and the region.")
    if found in THROTTLED:
        return errors.KmsBusy()
    if found == "ConflictException":
        return errors.KmsUnavailable(detail="a rotation of this key is under way")
    if found in DOWN or status >= SERVER_ERROR:
        return errors.KmsUnavailable(detail="it answered with an error of its own")
    return errors.KmsInvalid()
