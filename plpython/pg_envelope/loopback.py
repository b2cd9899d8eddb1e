"""Tells whether an address is of this machine. What is secret may travel without TLS to such an address only."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """True for a loopback address without brackets or a netmask, and for `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
