"""Messages in forms that pgcrypto does not write, and that gpg and others do."""

from __future__ import annotations

import bz2
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.openpgp.armor import armored, dearmored
from pg_envelope.foreign.openpgp.packets import packet, packets
from pg_envelope.foreign.openpgp.symmetric import cfb_sealed, stretched
from pg_envelope.foreign.presets import reader_of

PHRASE = b"phrase"
LITERAL = packet(11, b"b\x00\x00\x00\x00\x00" + b"content")
READER = reader_of("pgp_sym", LegacyKey("text", (PHRASE,)))


def message(inside: bytes) -> bytes:
    """A message with a check, around the bytes of packets."""
    specifier = b"\x00\x08"
    key, _ = stretched(PHRASE, specifier, 32)
    start = os.urandom(16)
    checked = start + start[-2:] + inside + b"\xd3\x14"
    sealed = cfb_sealed(9, key, checked + hashlib.sha1(checked).digest())
    return packet(3, b"\x04\x09" + specifier) + packet(18, b"\x01" + sealed)


def test_bzip2() -> None:
    assert READER.open(message(packet(8, b"\x03" + bz2.compress(LITERAL)))) == b"content"


@pytest.mark.parametrize(
    "inside",
    [b"", b"\x03", packet(8, b"\x03no"), packet(8, b"\x01no"), packet(8, b"\x09"), packet(12, b"x"), b"\xcb\xff"],
)
def test_what_is_inside_is_no_message(inside: bytes) -> None:
    with pytest.raises(errors.InvalidEnvelope):
        READER.open(message(inside))


def test_a_stream_of_parts() -> None:
    body = LITERAL[2:]
    parts = b"\xcb" + b"\xe2" + body[:4] + bytes((len(body) - 4,)) + body[4:]
    assert READER.open(message(parts)) == b"content"


@given(st.binary(min_size=1, max_size=400))
def test_armour(content: bytes) -> None:
    assert dearmored(armored(content).encode()) == content


@given(st.integers(0, 63), st.binary(max_size=9000))
def test_a_packet_is_read_as_it_was_written(tag: int, body: bytes) -> None:
    assert list(packets(packet(tag, body))) == [(tag, body)]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message(content: bytes) -> None:
    assert not READER.opens(content)


@cache
def options_of_gpg() -> list[str]:
    return subprocess.run(["gpg", "--dump-options"], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("cipher", ["BLOWFISH", "CAST5", "3DES", "AES", "AES192", "AES256"])
@pytest.mark.parametrize("more", [(), ("--armor",), ("--compress-algo", "bzip2"), ("--s2k-digest-algo", "SHA512")])
def test_messages_of_gpg(tmp_path: Path, cipher: str, more: tuple[str, ...]) -> None:
    content = "Zoë ".encode() * 500
    command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", PHRASE.decode()]
    # Newer versions of gpg refuse old ciphers without it.
    command += [option for option in ("--allow-old-cipher-algos",) if option in options_of_gpg()]
    command += ["--s2k-count", "65536", "--cipher-algo", cipher, *more, "--symmetric"]
    environment = {"PATH": os.environ["PATH"], "GNUPGHOME": str(tmp_path)}
    done = subprocess.run(command, input=content, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert READER.open(done.stdout) == content
