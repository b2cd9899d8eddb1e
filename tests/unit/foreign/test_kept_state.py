"""Ciphers, HMACs and decoders that keep something between values give what the usual functions give."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope.foreign.bad import FAILS
from pg_envelope.foreign.ciphers import METHODS, unpadded
from pg_envelope.foreign.encodings import SPACE, URL_SAFE, from_base64
from pg_envelope.hmacs import hmac_of

KEY = bytes(range(32))
BASE64 = st.text("AZaz09+/-_= \n\t.\x00é", max_size=40).map(str.encode) | st.binary(max_size=40).map(base64.b64encode)


def decoded(text: bytes) -> bytes | None:
    plain = text.translate(URL_SAFE, SPACE).rstrip(b"=")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None


@settings(max_examples=500)
@given(BASE64)
def test_base64(text: bytes) -> None:
    found = None
    with contextlib.suppress(*FAILS):
        found = from_base64(text)
    assert found == decoded(text)


@given(st.binary(max_size=200), st.binary(max_size=300), st.sampled_from(["md5", "sha1", "sha256", "sha384", "sha512"]))
def test_hmac(key: bytes, content: bytes, digest: str) -> None:
    made = hmac_of(key, digest=digest)
    assert [made(content), made(b""), made(content)] == [
        hmac.digest(key, text, digest) for text in (content, b"", content)
    ]


@given(
    st.lists(
        st.tuples(st.binary(max_size=40) | st.binary(min_size=16, max_size=16), st.binary(max_size=70)), max_size=9
    )
)
def test_one_stream_opens_every_value(values: list[tuple[bytes, bytes]]) -> None:
    """A value of a wrong length must not spoil the next one."""
    opener = METHODS["aes-cbc"].opener(KEY)
    for iv, plain in [*values, (bytes(16), b"the last")]:
        padder = padding.PKCS7(128).padder()
        whole = padder.update(plain) + padder.finalize()
        with contextlib.suppress(*FAILS):
            opener(iv, plain, None)
        if len(iv) == 16:
            stream = Cipher(algorithms.AES(KEY), modes.CBC(iv)).encryptor()
            assert unpadded(opener(iv, stream.update(whole) + stream.finalize(), None), 16) == plain


@given(st.binary(max_size=4).map(lambda content: content.rjust(16, b"x")), st.integers(0, 255))
def test_padding(content: bytes, last: int) -> None:
    given_content = content[:-1] + bytes([last])
    unpadder = padding.PKCS7(128).unpadder()
    try:
        wanted: bytes | None = unpadder.update(given_content) + unpadder.finalize()
    except ValueError:
        wanted = None
    found = None
    with contextlib.suppress(*FAILS):
        found = unpadded(given_content, 16)
    assert found == wanted
