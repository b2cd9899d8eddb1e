"""Makes the TLS side of the door: version 1.3 alone, and no connection without a client certificate."""

from __future__ import annotations

import ssl

from pg_envelope import errors
from pg_envelope.broker.settings.door import DoorSettings
from pg_envelope.broker.system import files


def context(settings: DoorSettings) -> ssl.SSLContext:
    """Returns the door's context. Raises NotConfigured for a file that is missing, open to others, or not fit."""
    files.read_private(settings.key_file)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    # A resumed connection would not show its certificate again.
    made.num_tickets = 0
    _load(made, settings)
    return made


def _load(made: ssl.SSLContext, settings: DoorSettings) -> None:
    try:
        made.load_cert_chain(settings.certificate_file, settings.key_file, _no_password)
        made.load_verify_locations(settings.client_ca_file)
        if settings.crl_file:
            made.load_verify_locations(settings.crl_file)
            made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as error:
        raise errors.NotConfigured(
            "the door cannot use its certificates",
            detail=error.strerror or type(error).__name__,
            hint="certificate_file, client_ca_file and crl_file of [door] must be PEM files."
            " key_file must belong to the certificate, and have no passphrase.",
        ) from None


def _no_password() -> str:
    """Answers for a key with a passphrase. Without an answer OpenSSL would ask at the terminal."""
    return ""
