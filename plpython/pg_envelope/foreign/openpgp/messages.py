"""Opens messages: the session key first, then the packets inside."""

from __future__ import annotations

import bz2
import hashlib
import zlib
from collections.abc import Callable

from pg_envelope.foreign.bad import BadLayout, NotOpened
from pg_envelope.foreign.contents import MOST_BYTES, inflated
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.openpgp.armor import dearmored
from pg_envelope.foreign.openpgp.packets import Packet, number, packets
from pg_envelope.foreign.openpgp.secret_keys import decrypted, secret_keys
from pg_envelope.foreign.openpgp.symmetric import CIPHERS, cfb, cfb_restarted, key_bytes, stretched
from pg_envelope.foreign.reader import ForeignReader, Opener, first_of

PUBLIC_SESSION_KEY, SESSION_KEY, COMPRESSED, SEALED, LITERAL, CHECKED = 1, 3, 8, 9, 11, 18
MDC_BYTES = 22
STORED, ZIP, ZLIB, BZIP2 = 0, 1, 2, 3
ANY_KEY = bytes(8)

# Finds the cipher and the session key of a message in its first packet.
FindKey = Callable[[Packet], tuple[int, bytes]]


def pgp_sym(key: LegacyKey, *, convert_crlf: bool = False, checked: bool = True) -> ForeignReader:
    """Each secret is a passphrase. Without `checked` it also reads what pgcrypto's option disable-mdc wrote."""
    openers = [_opener(_of_passphrase(secret), SESSION_KEY, convert_crlf, checked) for secret in key.secrets]
    return ForeignReader(first_of(openers), sym_shape, authenticates=checked, is_marked=True)


def pgp_pub(key: LegacyKey, *, convert_crlf: bool = False, passphrase: bytes = b"") -> ForeignReader:
    """The secret is a secret key in OpenPGP's own format."""
    if key.form != "openpgp-armored":
        raise BadLayout("this layout needs a legacy key that was imported with --format openpgp-armored")
    found = {secret.key_id: secret.private(passphrase) for content in key.secrets for secret in secret_keys(content)}

    def session_key(packet: Packet) -> tuple[int, bytes]:
        wanted = packet.body[1:9]
        tried = list(found.values()) if wanted == ANY_KEY else [found[wanted]]
        sealed, _ = number(packet.body, 10)
        for private in tried[:-1]:
            try:
                return _checked(decrypted(private, sealed))
            except (NotOpened, ValueError):
                continue
        return _checked(decrypted(tried[-1], sealed))

    opener = _opener(session_key, PUBLIC_SESSION_KEY, convert_crlf, checked=True)
    return ForeignReader(opener, pub_shape, authenticates=True, is_marked=True)


def _checked(content: bytes) -> tuple[int, bytes]:
    """Returns cipher and key: cipher | key | sum of the key's bytes (2)."""
    cipher, key, told = content[0], content[1:-2], content[-2:]
    if cipher not in CIPHERS or sum(key) % 65536 != int.from_bytes(told, "big"):
        raise NotOpened
    return cipher, key


def _of_passphrase(passphrase: bytes) -> FindKey:
    def session_key(packet: Packet) -> tuple[int, bytes]:
        body = packet.body
        if body[0] != 4:
            raise NotOpened
        cipher = body[1]
        key, length = stretched(passphrase, body[2:], key_bytes(cipher))
        sealed = body[2 + length :]
        if not sealed:
            return cipher, key
        opened = cfb(cipher, key, sealed)
        return opened[0], opened[1:]

    return session_key


def sym_shape(value: bytes) -> bytes:
    return _shape(value, SESSION_KEY)


def pub_shape(value: bytes) -> bytes:
    return _shape(value, PUBLIC_SESSION_KEY)


def _shape(value: bytes, first: int) -> bytes:
    found = list(packets(dearmored(value)))
    if len(found) < 2 or found[0].tag != first or found[-1].tag not in (SEALED, CHECKED):
        raise NotOpened
    return found[-1].body


def _opener(find: FindKey, first: int, convert_crlf: bool, checked: bool) -> Opener:
    def opened(value: bytes) -> bytes:
        head, *_, last = packets(dearmored(value))
        if head.tag != first or (checked and last.tag != CHECKED):
            raise NotOpened
        content = _literal(_unsealed(last, *find(head)))
        return content.replace(b"\r\n", b"\n") if convert_crlf else content

    return opened


def _unsealed(packet: Packet, cipher: int, key: bytes) -> bytes:
    if packet.tag == SEALED:
        return cfb_restarted(cipher, key, packet.body)
    if packet.tag != CHECKED or packet.body[0] != 1:
        raise NotOpened
    opened = cfb(cipher, key, packet.body[1:])
    content, told = opened[:-MDC_BYTES], opened[-MDC_BYTES:]
    made = hashlib.sha1(content + b"\xd3\x14").digest()  # noqa: S324 -- the format has no other hash
    if told != b"\xd3\x14" + made:
        raise NotOpened
    return content[CIPHERS[cipher][2] + 2 :]


def _literal(content: bytes) -> bytes:
    """Returns what a literal packet holds, compressed or not."""
    found = next(iter(packets(content)), None)
    if found is None:
        raise NotOpened
    if found.tag == COMPRESSED:
        return _literal(_inflated(found.body[0], found.body[1:]))
    if found.tag != LITERAL:
        raise NotOpened
    return found.body[2 + found.body[1] + 4 :]


def _of_bzip2(content: bytes) -> bytes:
    try:
        return bz2.BZ2Decompressor().decompress(content, MOST_BYTES)
    except OSError:
        raise NotOpened from None


def _inflated(how: int, content: bytes) -> bytes:
    if how == STORED:
        return content
    if how == BZIP2:
        return _of_bzip2(content)
    if how not in (ZIP, ZLIB):
        raise NotOpened
    return inflated(content, -zlib.MAX_WBITS if how == ZIP else zlib.MAX_WBITS)
