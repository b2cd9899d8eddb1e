"""The second implementation's sealed backups and values of applications: FORMAT.md sections 12 and 13. It shares
nothing with the package.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from Crypto.Cipher import AES

from tests.vectors.check_envelopes import Malformed
from tests.vectors.check_records import opened as opened_dek
from tests.vectors.check_sealed import CHUNK, check_file, envelope, gcm, opened, row_key, sealed_file
from tests.vectors.kdf import hkdf

MAGIC = b"pgenvb1\n"
MEMBERS = ("pg_envelope_backup", "label", "kind", "made", "database_uuid", "key", "break_glass", "about")
OF_KEY = ("dek_id", "kek", "store", "wrapped", "fingerprint", "key_id", "salt", "field_uuid")
OF_GLASS = ("environment", "public_key", "sealed")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
PART = 65_536

Vector = dict[str, Any]


def check_cache_value(vector: Vector) -> None:
    bound = row_key("cache", vector["prefix"], vector["cache_name"])
    made = envelope(vector, bytes.fromhex(vector["content"]), bound)
    assert (made.hex(), vector["prefix"] + vector["cache_name"]) == (vector["envelope"], vector["stored_name"])
    assert opened(vector, made, bound.decode()).hex() == vector["content"]


def check_number_vector(vector: Vector) -> None:
    found = numbers([float(number) for number in vector["numbers"]])
    assert (None if found is None else found.hex()) == vector["content"]


def numbers(given: list[float]) -> bytes | None:
    """The bytes of a vector, None when a number is not finite as binary32."""
    try:
        content = struct.pack(f"<{len(given)}f", *given)
    except OverflowError:
        return None
    # An exponent of ones: infinite, or no number.
    is_finite = all(bits >> 23 & 0xFF != 0xFF for bits in struct.unpack(f"<{len(given)}I", content))
    return content if is_finite else None


def check_placed_file(vector: Vector) -> None:
    assert row_key(vector["place"], *vector["names"]).decode() == vector["context"]
    check_file(vector)
    length, parts = len(sealed_file(vector)), vector["parts"]
    assert parts is None or parts == [min(PART, length - place) for place in range(0, length, PART)]


def head_of(text: str) -> Vector:
    """The head of a sealed backup. Raises Malformed unless it is written as the section says."""
    try:
        told: Vector = json.loads(text.encode().decode("ascii"))
        written = all(_rules(text, told))
    except (ValueError, LookupError, TypeError, AttributeError):
        written = False
    if not written:
        raise Malformed("head")
    return told


def _rules(text: str, told: Vector) -> Iterator[bool]:
    key, glass = told["key"], told["break_glass"]
    yield (tuple(told), tuple(key)) == (MEMBERS, OF_KEY)
    yield glass is None or tuple(glass) == OF_GLASS
    yield text == json.dumps(told, separators=(",", ":"))
    versions = [told["pg_envelope_backup"], key["key_id"]]
    yield versions == [1, 1] and all(type(number) is int for number in [*versions, key["dek_id"]])
    yield 1 << 62 <= key["dek_id"] < 1 << 63
    yield told["kind"] in ("dump", "base") and key["store"] == "catalog"
    yield LABEL.fullmatch(told["label"]) is not None
    yield datetime.datetime.fromisoformat(told["made"]).utcoffset() is not None
    yield all(str(UUID(uuid)) == uuid for uuid in (told["database_uuid"], key["field_uuid"]))


def file_key_of(head: Vector, dek: bytes) -> bytes:
    key = head["key"]
    assert (
        hkdf(dek, b"", b"pg_envelope/1 fingerprint" + key["dek_id"].to_bytes(8, "big"), 16).hex() == key["fingerprint"]
    )
    info = b"pg_envelope/1 field" + UUID(key["field_uuid"]).bytes + key["key_id"].to_bytes(4, "big")
    return hkdf(dek, bytes.fromhex(key["salt"]), info, 32)


def about_of(head: Vector, file_key: bytes) -> Any:
    sealed = base64.b64decode(head["about"], validate=True)
    cipher = AES.new(file_key, AES.MODE_GCM, nonce=b"\xff" * 12)
    return json.loads(cipher.decrypt_and_verify(sealed[:-16], sealed[-16:]))


def sealed_backup(vector: Vector) -> bytes:
    """The file, from its head, the file key and the content."""
    text = vector["text"].encode()
    head = MAGIC + len(text).to_bytes(4, "big") + text
    content = hashlib.shake_256(vector["content_seed"].encode()).digest(vector["content_bytes"])
    parts = [content[place : place + CHUNK] for place in range(0, len(content), CHUNK)] or [b""]
    key, aad = bytes.fromhex(vector["file_key"]), hashlib.sha256(head).digest()
    last = len(parts) - 1
    return head + b"".join(
        gcm(key, number.to_bytes(11, "big") + bytes([number == last]), part, aad) for number, part in enumerate(parts)
    )


def check_sealed_backup(vector: Vector) -> None:
    head, dek = head_of(vector["text"]), bytes.fromhex(vector["dek"])
    assert file_key_of(head, dek).hex() == vector["file_key"]
    assert about_of(head, bytes.fromhex(vector["file_key"])) == vector["about"]
    glass = head["break_glass"]
    assert (glass is None) is (vector["private_key"] is None)
    if glass:
        place = {"purpose": "keys_backup", "environment": glass["environment"], "database_uuid": head["database_uuid"]}
        assert opened_dek({**vector, **place}, head["key"]["dek_id"], glass["sealed"]) == vector["dek"]
    made = sealed_backup(vector)
    assert (len(made), hashlib.sha256(made).hexdigest()) == (vector["file_bytes"], vector["file_sha256"])
    opened_backup(vector, made)


def check_malformed_sealed_backup(vector: Vector) -> None:
    opened_backup(vector, sealed_backup(vector))
    try:
        opened_backup(vector, malformed_backup(vector))
    except (Malformed, ValueError):
        return
    raise AssertionError("it opens")


def malformed_backup(vector: Vector) -> bytes:
    """Pieces of the good file, and other bytes between them."""
    good, parts = sealed_backup(vector), vector["parts"]
    return b"".join(bytes.fromhex(part) if isinstance(part, str) else good[part[0] :][: part[1]] for part in parts)


def opened_backup(vector: Vector, found: bytes) -> bytes:
    """The content of a sealed backup. Raises Malformed or ValueError."""
    start = 12 + int.from_bytes(found[8:12], "big")
    if found[:8] != MAGIC or not 12 < start <= 12 + (1 << 20) or len(found) <= start:
        raise Malformed("head")
    head_of(found[12:start].decode())
    key, aad = bytes.fromhex(vector["file_key"]), hashlib.sha256(found[:start]).digest()
    places = range(start, len(found), CHUNK + 16)
    content = [
        _chunk(key, aad, number.to_bytes(11, "big") + bytes([place == places[-1]]), found[place:][: CHUNK + 16])
        for number, place in enumerate(places)
    ]
    if len(content) > 1 and not content[-1]:
        raise Malformed("an empty chunk")
    return b"".join(content)


def _chunk(key: bytes, aad: bytes, nonce: bytes, sealed: bytes) -> bytes:
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(aad)
    return cipher.decrypt_and_verify(sealed[:-16], sealed[-16:])
