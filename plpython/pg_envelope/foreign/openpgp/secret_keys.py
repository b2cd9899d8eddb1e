"""Secret keys of RSA, with and without a passphrase."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pg_envelope.foreign.bad import NotOpened
from pg_envelope.foreign.openpgp.packets import number, packets
from pg_envelope.foreign.openpgp.symmetric import CIPHERS, cfb, key_bytes, stretched

SECRET_KEY, SECRET_SUBKEY = 5, 7
VERSION, RSA = 4, (1, 2)
CLEAR, CHECKED, HASHED = 0, 255, 254


class SecretKey(NamedTuple):
    """`body` is the packet's; `public_end` is where its secret half begins."""

    key_id: bytes
    body: bytes
    public_end: int

    def private(self, passphrase: bytes) -> rsa.RSAPrivateKey:
        """Raises one of bad.FAILS for a wrong passphrase."""
        n, at = number(self.body, 6)
        e, _ = number(self.body, at)
        secret = self._secret(passphrase)
        d, at = number(secret, 0)
        p, at = number(secret, at)
        q, _ = number(secret, at)
        dmp1, dmq1, iqmp = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
        return rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, rsa.RSAPublicNumbers(e, n)).private_key()

    def _secret(self, passphrase: bytes) -> bytes:
        usage, rest = self.body[self.public_end], self.body[self.public_end + 1 :]
        if usage == CLEAR:
            return rest
        if usage not in (CHECKED, HASHED):
            raise NotOpened
        cipher = rest[0]
        key, length = stretched(passphrase, rest[1:], key_bytes(cipher))
        at = 1 + length
        block = CIPHERS[cipher][2]
        opened = cfb(cipher, key, rest[at + block :], rest[at : at + block])
        _check(usage, opened)
        return opened


def _check(usage: int, opened: bytes) -> None:
    if usage == HASHED:
        fits = hashlib.sha1(opened[:-20]).digest() == opened[-20:]  # noqa: S324 -- the format has no other hash
    else:
        fits = sum(opened[:-2]) % 65536 == int.from_bytes(opened[-2:], "big")
    if not fits:
        raise NotOpened


def secret_keys(content: bytes) -> list[SecretKey]:
    """Returns the keys that can open messages. Raises NotOpened where there is none."""
    found = [_key(body) for tag, body in packets(content) if tag in (SECRET_KEY, SECRET_SUBKEY) and _is_rsa(body)]
    if not found:
        raise NotOpened
    return found


def _is_rsa(body: bytes) -> bool:
    return body[0] == VERSION and body[5] in RSA


def _key(body: bytes) -> SecretKey:
    _, at = number(body, 6)
    _, end = number(body, at)
    public = body[:end]
    told = b"\x99" + len(public).to_bytes(2, "big") + public
    key_id = hashlib.sha1(told).digest()[-8:]  # noqa: S324 -- the format has no other hash
    return SecretKey(key_id, body, end)


def decrypted(key: rsa.RSAPrivateKey, sealed: int) -> bytes:
    size = (key.key_size + 7) // 8
    return key.decrypt(sealed.to_bytes(size, "big"), padding.PKCS1v15())
