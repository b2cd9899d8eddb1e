"""Connects to a KMIP server over mutual TLS, for the requests of one call."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pg_envelope import errors
from pg_envelope.broker.kms.providers import kmip_wire as wire
from pg_envelope.broker.kms.providers.kmip_wire import Ask, KmipFailed
from pg_envelope.broker.settings.kms import KmipSettings as Settings
from pg_envelope.broker.system import files

HEADER_BYTES = 8
MOST_BYTES = 1 << 20
# A server's TLS alerts about our certificate, in OpenSSL's words.
REFUSED = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR")

DENIED = {
    "ATTESTATION_FAILED",
    "ATTESTATION_REQUIRED",
    "AUTHENTICATION_NOT_SUCCESSFUL",
    "NOT_AUTHORISED",
    "PERMISSION_DENIED",
    "USAGE_LIMIT_EXCEEDED",
    "WRONG_KEY_LIFECYCLE_STATE",
}
MISSING = {"ITEM_NOT_FOUND", "OBJECT_DESTROYED", "OBJECT_NOT_FOUND"}
DOWN = {"GENERAL_FAILURE", "INTERNAL_SERVER_ERROR", "PROTECTION_STORAGE_UNAVAILABLE"}


class KmipLink:
    """Sends requests in one message, and waits for the answers within the rest of timeout_ms."""

    def __init__(self, connection: ssl.SSLSocket, end: float) -> None:
        self._connection, self._end = connection, end

    def ask(self, asks: Sequence[Ask]) -> list[Any]:
        """Returns a payload or Failed for each operation. Raises KmsUnavailable when there is no answer to them."""
        if not asks:
            return []
        self._connection.settimeout(left(self._end))
        self._connection.sendall(wire.encoded(asks))
        header = self._read(HEADER_BYTES)
        length = int.from_bytes(header[4:], "big")
        if length > MOST_BYTES:
            raise errors.KmsUnavailable(detail="its answer is longer than any that was asked for")
        content = header + self._read(length)
        try:
            return wire.decoded(content, asks)
        except Exception:
            # PyKMIP has many ways to say that it cannot read something.
            raise errors.KmsUnavailable(detail="it does not answer in KMIP") from None

    def must(self, *asks: Ask) -> list[Any]:
        """Returns the payloads. Raises the error of the first operation that failed."""
        answers = self.ask(asks)
        for failed in wire.failures(answers):
            raise error_of(failed)
        return answers

    def _read(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            self._connection.settimeout(left(self._end))
            part = self._connection.recv(length - len(found))
            if not part:
                raise ConnectionResetError
            found += part
        return bytes(found)


@contextmanager
def connected(settings: Settings) -> Iterator[KmipLink]:
    """Makes a new connection for each call, so that a certificate that was replaced or revoked counts from the next one
    on.
    """
    end = time.monotonic() + settings.timeout_ms / 1000
    context = _context(settings)
    try:
        with (
            socket.create_connection((settings.host, settings.port), left(end)) as plain,
            context.wrap_socket(plain, server_hostname=settings.host) as connection,
        ):
            yield KmipLink(connection, end)
    except TimeoutError:
        raise errors.KmsUnavailable(detail="no answer within timeout_ms") from None
    except ssl.SSLCertVerificationError:
        raise errors.KmsUnavailable(detail="TLS failed: is ca_file the CA of the server, and host its name?") from None
    except ssl.SSLError as error:
        raise _from_tls(error) from None
    except OSError:
        raise errors.KmsUnavailable(detail="the connection failed") from None


def left(end: float) -> float:
    """Returns the seconds that are left. Raises TimeoutError when there are none, because 0 means something else to a
    socket.
    """
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def error_of(failed: KmipFailed) -> errors.EnvelopeError:
    """Returns the error for KMIP's reason only. The server's own text may hold a secret."""
    if failed.reason in MISSING:
        return errors.KekUnknown("the KMS has no such key", detail="It was removed a moment ago.")
    if failed.reason == "SERVER_LIMIT_EXCEEDED":
        return errors.KmsBusy()
    if failed.reason in DOWN:
        return errors.KmsUnavailable(detail=f"it answered with an error of its own ({failed.reason})")
    if failed.reason in DENIED:
        return errors.KmsDenied(detail=f"it refused the request ({failed.reason})")
    return errors.KmsInvalid(detail=f"its reason: {failed.reason}")


def _context(settings: Settings) -> ssl.SSLContext:
    """Makes the TLS context with the files as they are now."""
    try:
        files.read_private(settings.key_file)
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        # Without a password OpenSSL would ask for one on a terminal.
        context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
    except errors.NotConfigured as error:
        raise _denied(error.message, error.hint) from None
    except OSError:
        raise _denied("certificate_file and key_file are not a pair in PEM without a password") from None
    return context


def _from_tls(error: ssl.SSLError) -> errors.EnvelopeError:
    reason = error.reason or ""
    if "ALERT" in reason and any(word in reason for word in REFUSED):
        return _denied("the server refused the broker's certificate")
    return errors.KmsUnavailable(detail="TLS failed")


def _denied(detail: str, hint: str | None = None) -> errors.KmsDenied:
    return errors.KmsDenied("the broker cannot log in to the KMS", detail=detail, hint=hint)
