"""The second implementation's named keys, documents and files: FORMAT.md 1.1, 9 and 10. It shares nothing with the
package.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from Crypto.Cipher import AES

from tests.vectors.check_envelopes import Malformed, open_envelope, row_key_of

CHUNK = 65536
BLOCK = 512
SUITES = {1: "aes-256-gcm", 2: "xaes-256-gcm", 3: "chacha20-poly1305", 4: "aes-256-siv", 5: "aes-256-gcm-siv"}
NONCES = {1: 12, 2: 24, 3: 12, 4: 0, 5: 12}
ALGORITHMS = {
    f"{name}{end}": number + bit for number, name in SUITES.items() for end, bit in (("", 0), ("+padme", 128))
}
PARTS = {"__encrypted", "ciphertext", "iv", "authTag", "algorithm", "version"}
RECORD = {"ciphertext", "iv", "salt", "tag", "keyId", "algorithm", "encryptedAt"}

Vector = dict[str, Any]


def gcm(key: bytes, nonce: bytes, content: bytes, aad: bytes = b"") -> bytes:
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(aad)
    return b"".join(cipher.encrypt_and_digest(content))


def row_key(*parts: str) -> bytes:
    return row_key_of(list(parts)).encode()


def opened(vector: Vector, envelope: bytes, bound_to: str) -> bytes:
    """The content, under the key of a vector. Raises Malformed."""
    if envelope[2:6] != vector["key_id"].to_bytes(4, "big"):
        raise Malformed("key id")
    return open_envelope(envelope, bytes.fromhex(vector["field_key"]), UUID(vector["field_uuid"]), bound_to)


def envelope(vector: Vector, content: bytes, bound_to: bytes) -> bytes:
    """Suite 1, without padding."""
    header = b"\xe1\x01" + vector["key_id"].to_bytes(4, "big")
    nonce = bytes.fromhex(vector["nonce"])
    aad = header + UUID(vector["field_uuid"]).bytes + bound_to
    return header + nonce + gcm(bytes.fromhex(vector["field_key"]), nonce, content, aad)


def check_named_key(vector: Vector) -> None:
    """The row key is the context as it is: section 1.1."""
    made = envelope(vector, bytes.fromhex(vector["content"]), vector["context"].encode())
    assert made.hex() == vector["envelope"]
    assert opened(vector, made, vector["context"]).hex() == vector["content"]


def check_member(vector: Vector) -> None:
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in vector["place"])
    assert pointer == vector["pointer"]
    made = envelope(vector, vector["content"].encode(), row_key("document", vector["context"], pointer))
    assert vector["sealed"] == {"$envelope": base64.b64encode(made).decode()}


def check_layout(vector: Vector) -> None:
    assert opened_member(vector).decode() == vector["content"]


def check_malformed_member(vector: Vector) -> None:
    try:
        opened_member(vector)
    except (Malformed, LookupError, TypeError, ValueError, OverflowError):
        return
    raise AssertionError("it opens")


def opened_member(vector: Vector) -> bytes:
    """The content of a sealed value: section 9.2. Raises one of many errors for what is none."""
    place = ["document", vector["context"], *([] if vector["pointer"] is None else [vector["pointer"]])]
    return opened(vector, stored(vector["sealed"]), row_key(*place).decode())


def stored(found: Vector) -> bytes:
    """The envelope in one of the layouts."""
    if set(found) == {"$envelope"}:
        return base64.b64decode(found["$envelope"], validate=True)
    if set(found) == PARTS and found["__encrypted"] is True and type(found["version"]) is int:
        return joined(found, found["version"], found["authTag"])
    if set(found) == RECORD and found["keyId"] == str(int(found["keyId"])):
        return joined(found, int(found["keyId"]), found["tag"])
    raise Malformed("layout")


def joined(found: Vector, key_id: int, tag: str) -> bytes:
    suite = ALGORITHMS[found["algorithm"]]
    nonce, ciphertext, end = (base64.b64decode(part, validate=True) for part in (found["iv"], found["ciphertext"], tag))
    if (len(nonce), len(end)) != (NONCES[suite % 128], 16):
        raise Malformed("length")
    return bytes([0xE1, suite]) + key_id.to_bytes(4, "big") + nonce + ciphertext + end


READERS: dict[str, Callable[[str], Any]] = {
    "$datetime": datetime.datetime.fromisoformat,
    "$date": datetime.date.fromisoformat,
    "$time": datetime.time.fromisoformat,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$float": {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}.__getitem__,
}


def value_of(found: Any) -> Any:
    """The value of a sealed member's JSON: section 9.1. Raises LookupError for a tag that is none."""
    if isinstance(found, list):
        return [value_of(item) for item in found]
    if not isinstance(found, dict):
        return found
    tags = [name for name in found if name.startswith("$") and len(found) == 1]
    if tags and tags != ["$"]:
        return READERS[tags[0]](found[tags[0]])
    return {name: value_of(item) for name, item in (found["$"] if tags else found).items()}


def check_file(vector: Vector) -> None:
    made = sealed_file(vector)
    assert hashlib.sha256(made).hexdigest() == vector["file_sha256"]
    assert vector.get("file", made.hex()) == made.hex()


def sealed_file(vector: Vector) -> bytes:
    content = hashlib.shake_256(vector["content_seed"].encode()).digest(vector["content_bytes"])
    key, about = bytes.fromhex(vector["file_key"]), json.dumps(vector["about"], ensure_ascii=False)
    head = envelope(vector, key + about.encode(), row_key("file", vector["context"]))
    begin = b"pgenvf1\n" + len(head).to_bytes(4, "big") + head
    parts = [content[place : place + CHUNK] for place in range(0, len(content), CHUNK)] or [b""]
    chunks = [
        gcm(key, number.to_bytes(11, "big") + (b"\1" if number == len(parts) - 1 else b"\0"), part)
        for number, part in enumerate(parts)
    ]
    return begin + bytes(-len(begin) % BLOCK) + b"".join(chunks)


def check_malformed_file(vector: Vector) -> None:
    opened_file(vector, sealed_file(vector))
    try:
        opened_file(vector, malformed_file(vector))
    except (Malformed, ValueError):
        return
    raise AssertionError("it opens")


def malformed_file(vector: Vector) -> bytes:
    """Pieces of the good file, and other bytes between them."""
    good = sealed_file(vector)
    parts = vector["parts"]
    return b"".join(bytes.fromhex(part) if isinstance(part, str) else good[part[0] :][: part[1]] for part in parts)


def opened_file(vector: Vector, found: bytes) -> bytes:
    """The content of a file: section 10. Raises Malformed or ValueError."""
    length = int.from_bytes(found[8:12], "big")
    start = -(-(12 + length) // BLOCK) * BLOCK
    if found[:8] != b"pgenvf1\n" or length > 65_536 or len(found) <= start or found[12 + length : start].strip(b"\0"):
        raise Malformed("header")
    key = opened(vector, found[12 : 12 + length], row_key("file", vector["context"]).decode())[:32]
    places = range(start, len(found), CHUNK + 16)
    last = places[-1]
    chunks = [chunk(key, number, place == last, found[place:][: CHUNK + 16]) for number, place in enumerate(places)]
    if len(chunks) > 1 and not chunks[-1]:
        raise Malformed("an empty chunk")
    return b"".join(chunks)


def chunk(key: bytes, number: int, last: bool, sealed: bytes) -> bytes:
    cipher = AES.new(key, AES.MODE_GCM, nonce=number.to_bytes(11, "big") + bytes([last]))
    return cipher.decrypt_and_verify(sealed[:-16], sealed[-16:])
