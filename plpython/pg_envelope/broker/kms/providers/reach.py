"""Tells why a KMS was not reached, in our own words: a library's text could hold a URL, a header or a token."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

CERTIFICATE = {
    9: "its certificate is not valid yet: compare the clocks of both machines",
    10: "its certificate has expired",
    62: "its certificate is for another host name than the one in address",
    64: "its certificate does not name the IP address in address",
}
UNKNOWN_CA = "its certificate is not from the CA in ca_file"
PROTOCOL = "what listens there speaks no TLS, or no version that is still safe"
CLOSED = "it closed the connection"
REASONS = {
    errno.ECONNREFUSED: "nothing listens at its address and port",
    errno.EHOSTUNREACH: "there is no route to its address",
    errno.ENETUNREACH: "there is no route to its address",
}


def why(error: BaseException) -> str:
    """Returns the cause, from the error or any error behind it."""
    for found in _family(error):
        if isinstance(found, ssl.SSLCertVerificationError):
            return f"TLS failed: {CERTIFICATE.get(found.verify_code, UNKNOWN_CA)}"
        if isinstance(found, ssl.SSLEOFError | ConnectionResetError):
            return CLOSED
        if isinstance(found, ssl.SSLError):
            return f"TLS failed: {PROTOCOL}"
        if isinstance(found, socket.gaierror):
            return "its host name is unknown (DNS): see address"
        if isinstance(found, OSError) and found.errno in REASONS:
            return REASONS[found.errno]
    return "the connection failed"


def _family(error: BaseException) -> Iterator[BaseException]:
    """Yields the error and its causes; urllib3 and requests keep theirs in `reason` and in the arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        held = (getattr(found, "reason", None), found.__cause__, found.__context__, *found.args)
        waiting += [one for one in held if isinstance(one, BaseException)]
