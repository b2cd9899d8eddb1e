"""The second implementation's documents and files: FORMAT.md 9 and 10. It shares nothing with the package."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from uuid import UUID

from Crypto.Cipher import AES

CHUNK = 65536
BLOCK = 512

Vector = dict[str, Any]


def gcm(key: bytes, nonce: bytes, content: bytes, aad: bytes = b"") -> bytes:
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(aad)
    return b"".join(cipher.encrypt_and_digest(content))


def row_key(*parts: str) -> bytes:
    return "".join(f"{len(part)}:{part}" for part in parts).encode()


def envelope(vector: Vector, content: bytes, bound_to: bytes) -> bytes:
    """Suite 1, without padding."""
    header = b"\xe1\x01" + vector["key_id"].to_bytes(4, "big")
    nonce = bytes.fromhex(vector["nonce"])
    aad = header + UUID(vector["field_uuid"]).bytes + bound_to
    return header + nonce + gcm(bytes.fromhex(vector["field_key"]), nonce, content, aad)


def check_member(vector: Vector) -> None:
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in vector["place"])
    assert pointer == vector["pointer"]
    made = envelope(vector, vector["content"].encode(), row_key("document", vector["context"], pointer))
    assert vector["sealed"] == {"$envelope": base64.b64encode(made).decode()}


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
