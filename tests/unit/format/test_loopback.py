"""Which addresses are of this machine: they alone may do without TLS."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.loopback import is_loopback

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.255.255", "::1", "0:0:0:0:0:0:0:1", "localhost"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "128.0.0.1", "::2", "127.0.0.1/0", "[::1]", "localhost.example", "127.0.0.1.example"]
)
def test_another_machine_or_no_address(host: str) -> None:
    assert not is_loopback(host)


@given(address=st.ip_addresses())
def test_any_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    inside = address in LOOPBACK if address.version == 4 else address.packed == bytes(15) + b"\1"
    assert is_loopback(str(address)) == inside
