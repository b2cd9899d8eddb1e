"""A second implementation of FORMAT.md, to check the vectors with: nothing in it comes from the package.

Run it: python -m tests.vectors.check
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from Crypto.Cipher import AES, ChaCha20_Poly1305

from tests.vectors import check_records, check_sealed
from tests.vectors.gcm_siv import GcmSiv
from tests.vectors.kdf import hkdf

HERE = Path(__file__).parent

Vector = dict[str, Any]
Cipher = Callable[[bytes, bytes], Any]


class Malformed(Exception):
    """Says which rule an envelope breaks: version, suite, length, tag or padding."""


def gcm(key: bytes, nonce: bytes) -> Any:
    return AES.new(key, AES.MODE_GCM, nonce=nonce)


def chacha(key: bytes, nonce: bytes) -> Any:
    return ChaCha20_Poly1305.new(key=key, nonce=nonce)


def xaes(key: bytes, nonce: bytes) -> Any:
    """C2SP: one CMAC block makes each half of the message's key, from the first half of the nonce."""
    blocks = AES.new(key, AES.MODE_ECB)
    bits = f"{int.from_bytes(blocks.encrypt(bytes(16)), 'big'):0128b}"
    subkey = int(bits[1:] + "0", 2) ^ (0x87 if bits[0] == "1" else 0)
    inputs = [int.from_bytes(bytes([0, half, ord("X"), 0]) + nonce[:12], "big") ^ subkey for half in (1, 2)]
    return gcm(b"".join(blocks.encrypt(block.to_bytes(16, "big")) for block in inputs), nonce[12:])


# Nonce bytes, and what makes a cipher for one message.
SUITES: dict[int, tuple[int, Cipher]] = {1: (12, gcm), 2: (24, xaes), 3: (12, chacha), 5: (12, GcmSiv)}


def seal(suite: int, key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """ciphertext | tag."""
    cipher = SUITES[suite][1](key, nonce)
    cipher.update(aad)
    return b"".join(cipher.encrypt_and_digest(plaintext))


def unseal(suite: int, key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext. Raises Malformed."""
    cipher = SUITES[suite][1](key, nonce)
    cipher.update(aad)
    try:
        return bytes(cipher.decrypt_and_verify(sealed[:-16], sealed[-16:]))
    except ValueError:
        raise Malformed("tag") from None


def padme(n: int) -> int:
    """The PADMÉ length, step by step as section 1.2 writes it."""
    if n < 2:
        return n
    e = max(power for power in range(64) if 2**power <= n)
    s = max(power for power in range(64) if 2**power <= e) + 1
    while n % 2 ** (e - s):
        n += 1
    return n


def open_envelope(envelope: bytes, field_key: bytes, field_uuid: UUID, row_key: str) -> bytes:
    """The content: section 1. Raises Malformed."""
    if len(envelope) < 6:
        raise Malformed("length")
    if envelope[0] != 0xE1:
        raise Malformed("version")
    padded, number = divmod(envelope[1], 128)
    if number not in SUITES:
        raise Malformed("suite")
    nonce_end = 6 + SUITES[number][0]
    if len(envelope) < nonce_end + 16:
        raise Malformed("length")
    aad = envelope[:6] + field_uuid.bytes + row_key.encode()
    plaintext = unseal(number, field_key, envelope[6:nonce_end], envelope[nonce_end:], aad)
    return _stripped(plaintext) if padded else plaintext


def _stripped(plaintext: bytes) -> bytes:
    end = len(plaintext)
    while end and plaintext[end - 1] == 0:
        end -= 1
    if not end or plaintext[end - 1] != 0x80:
        raise Malformed("padding")
    return plaintext[: end - 1]


def content_of(vector: Vector) -> bytes:
    """A vector's content: in hex, or so many bytes of SHAKE-256 of a seed."""
    if "content_seed" in vector:
        return hashlib.shake_256(vector["content_seed"].encode()).digest(vector["content_bytes"])
    return bytes.fromhex(vector["content"])


def row_key_of(columns: list[str]) -> str:
    """Section 1.1, for the primary key's canonical texts; none when the column is bound by column only."""
    return columns[0] if len(columns) == 1 else "".join(f"{len(column)}:{column}" for column in columns)


def make_envelope(vector: Vector) -> bytes:
    """The envelope, from the content and the keys alone; asserts what the vector says of the steps."""
    dek, salt, field_uuid = bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"]), UUID(vector["field_uuid"])
    key_id: bytes = vector["key_id"].to_bytes(4, "big")
    field_key = hkdf(dek, salt, b"pg_envelope/1 field" + field_uuid.bytes + key_id, 32)
    assert field_key.hex() == vector["field_key"]
    header = bytes([0xE1, vector["suite"] + 128 * vector["padded"]]) + key_id
    assert row_key_of(vector["row_key_columns"]) == vector["row_key"]
    aad = header + field_uuid.bytes + vector["row_key"].encode()
    assert aad.hex() == vector["aad"]
    plaintext, nonce = content_of(vector), bytes.fromhex(vector["nonce"])
    if vector["padded"]:
        plaintext = (plaintext + b"\x80").ljust(padme(len(plaintext) + 1), b"\0")
    return header + nonce + seal(vector["suite"], field_key, nonce, plaintext, aad)


def check_envelope(vector: Vector) -> None:
    """Makes the envelope again, and opens it."""
    envelope = make_envelope(vector)
    if "envelope" in vector:
        assert envelope.hex() == vector["envelope"]
    assert hashlib.sha256(envelope).hexdigest() == vector["envelope_sha256"]
    arguments = bytes.fromhex(vector["field_key"]), UUID(vector["field_uuid"]), vector["row_key"]
    assert open_envelope(envelope, *arguments) == content_of(vector)


def check_malformed(vector: Vector) -> None:
    assert broken_rule(vector) == vector["breaks"]


def broken_rule(vector: Vector) -> str:
    """The first rule that an envelope breaks, "none" when it opens."""
    arguments = bytes.fromhex(vector["field_key"]), UUID(vector["field_uuid"]), vector["row_key"]
    try:
        open_envelope(bytes.fromhex(vector["envelope"]), *arguments)
    except Malformed as broken:
        return str(broken)
    return "none"


def check_fingerprint(vector: Vector) -> None:
    info = b"pg_envelope/1 fingerprint" + vector["dek_id"].to_bytes(8, "big")
    assert hkdf(bytes.fromhex(vector["dek"]), b"", info, 16).hex() == vector["fingerprint"]


def check_token(vector: Vector) -> None:
    """Section 8: a normaliser, and an HMAC of what it leaves."""
    assert normalized(vector["normalizer"], vector["text"]) == vector["content"]
    key_id: bytes = vector["key_id"].to_bytes(4, "big")
    info = b"pg_envelope/1 field" + UUID(vector["field_uuid"]).bytes + key_id
    key = hkdf(bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"]), info, 32)
    message = b"pg_envelope/1 token\0" + vector["normalizer"].encode() + b"\0" + vector["content"].encode()
    assert hmac.new(key, message, hashlib.sha256).digest()[:16].hex() == vector["token"]


def normalized(normalizer: str, text: str) -> str:
    """Character by character, as the table of section 8 says."""
    name = normalizer.split("/")[0]
    if name in ("casefold", "email", "unaccent") or name.startswith("prefix"):
        for form in ("NFD", "NFKC"):
            text = unicodedata.normalize(form, text).casefold()
        text = unicodedata.normalize("NFKC", text)
    if name in ("email", "trim"):
        while text[:1].isspace():
            text = text[1:]
        while text[-1:].isspace():
            text = text[:-1]
    if name == "unaccent":
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.combining(c) == 0)
        text = unicodedata.normalize("NFC", text)
    if name == "digits" or name.startswith("last"):
        text = "".join(str(unicodedata.digit(c)) for c in text if unicodedata.category(c) == "Nd")
    if name in ("year", "month"):
        return _span(text, with_month=name == "month")
    if name.startswith("prefix"):
        return text[: int(name[6:])]
    return text[-int(name[4:]) :] if name.startswith("last") else text


def _span(text: str, *, with_month: bool) -> str:
    """What comes before the month, or before the day, of year-month-day, and BC at its end. All else stays."""
    number, *rest = text.split("-", 2)
    if len(rest) < 2 or not number or set(number) - set("0123456789"):
        return text
    month, day = rest[0], rest[1][:2]
    digits = set("0123456789")
    after = rest[1][2:]
    if not (len(month) == len(day) == 2 and set(month + day) <= digits and after[:1] in ("", " ", "T")):
        return text
    return number + (f"-{month}" if with_month else "") + (" BC" if after.endswith(" BC") else "")


def check_wrap(vector: Vector) -> None:
    """A keyring's wrap: section 2.1. It opens to its DEK, or, when it has none, not at all."""
    context = f"pg_envelope/1 {vector['environment']} {vector['database_uuid']} {vector['dek_id']}"
    assert context == vector["context"]
    prefix, version, text = vector["wrapped"].split(":")
    keks = {f"v{number}": bytes.fromhex(kek) for number, kek in vector["keks"].items()}
    assert prefix == "keyring"
    sealed = base64.b64decode(text, validate=True)
    try:
        dek = unseal(1, keks[version], sealed[:12], sealed[12:], context.encode()).hex()
    except (KeyError, Malformed):
        dek = None
    assert dek == vector["dek"]


def check_row_key(vector: Vector) -> None:
    """Section 1.1: which canonical texts an envelope is bound to."""
    key = vector["key"] if vector["bind"] == "row" else []
    scope = [vector["scope"]] if vector["scope"] and vector["scope"] not in key else []
    bound = row_key_of([text for _, text in [*scope, *key]])
    assert (vector["context"] if vector["bind"] == "context" else bound) == vector["row_key"]


def check_padme(vector: Vector) -> None:
    assert padme(vector["bytes"]) == vector["padded_bytes"]


CHECKS: dict[str, Callable[[Vector], None]] = {
    "envelopes": check_envelope,
    "malformed": check_malformed,
    "fingerprints": check_fingerprint,
    "keyring_wraps": check_wrap,
    "tokens": check_token,
    "padme": check_padme,
    "row_keys": check_row_key,
    "signatures": check_records.check_signature,
    "sealed_deks": check_records.check_sealed,
    "backups": check_records.check_backup,
    "ledgers": check_records.check_ledger,
    "members": check_sealed.check_member,
    "files": check_sealed.check_file,
}


def main() -> None:
    """Checks every vector of format1.json; says how many."""
    vectors = json.loads((HERE / "format1.json").read_text())
    for kind, check in CHECKS.items():
        for vector in vectors[kind]:
            try:
                check(vector)
            except AssertionError as error:
                sys.exit(f"{kind}: {vector.get('name', vector)}: {error or 'differs'}")
    print(", ".join(f"{len(vectors[kind])} {kind}" for kind in CHECKS), "checked")


if __name__ == "__main__":
    main()
