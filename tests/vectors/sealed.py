"""Vectors of named keys, documents and files, made by the package from fixed inputs: FORMAT.md sections 1.1, 9, 10."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from unittest import mock

from pg_envelope.suites import SUITES, TAG_BYTES
from pg_envelope_client.sealing import documents, markers, plain
from pg_envelope_client.sealing.file_header import MAGIC
from pg_envelope_client.sealing.files import CHUNK, SEALED_CHUNK, Chunks, seal_file
from tests.vectors.local import FIELD, local_key
from tests.vectors.records import TIME, drawn

FIELD_KEY = drawn("key of files", 32)
KEY_ID = 7
SSN = "078-05-1120"
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 6)
MEMBERS: dict[str, tuple[tuple[str, ...], Any]] = {
    "text": (("ssn",), SSN),
    "in a list": (("cards", "0", "pan"), "4111"),
    "odd names": (("a/b", "c~d"), {"$date": "no date", "x": [1, 1.5, None, True]}),
    "looks like a tag": (("x",), {"$date": "no date"}),
    "types": (("x",), [Decimal("1.50"), b"\x00\xff", float("inf")]),
    "times": (("x",), [MOMENT, MOMENT.replace(tzinfo=dt.UTC), MOMENT.date(), MOMENT.time(), FIELD]),
    "large numbers": (("x",), [1 << 70, -0.0, 1e-300, Decimal("1E+3")]),
    "tags in a tag": (("x",), {"$": {"$": {"$date": "no date"}}}),
}
FILES: dict[str, tuple[int, str, str | None]] = {
    "empty": (0, "", None),
    "short": (5, "inbox/7", "Zoë.txt"),
    "one whole chunk": (CHUNK, "", "a"),
    "a chunk and a byte": (CHUNK + 1, "ctx", None),
    "three chunks": (2 * CHUNK + 100, "ctx", "b"),
}

# A context, and what is sealed under it: a text, or bytes.
NAMED: dict[str, tuple[str, str | bytes]] = {
    "without a context": ("", "a@b.c"),
    "with a context": ("invoice 7", "Zoë 🦉"),
    "bytes": ("invoice 7", b"\x00\xff"),
    "a secret, version 1": ("secret 1", b"old passphrase"),
    "a secret, version 2": ("secret 2", b"new passphrase"),
}

Vector = dict[str, Any]


def named_keys() -> Iterator[Vector]:
    for name, (context, value) in NAMED.items():
        nonce = drawn(f"nonce of named key, {name}", 12)
        with mock.patch.object(os, "urandom", return_value=nonce):
            envelope = local_key(content=FIELD_KEY).seal(value, context)
        assert envelope is not None
        content = value.encode() if isinstance(value, str) else value
        told = {"context": context, "content": content.hex(), "nonce": nonce.hex(), "envelope": envelope.hex()}
        yield {"name": name, **_key(), **told}


def _key() -> Vector:
    return {"field_key": FIELD_KEY.hex(), "field_uuid": str(FIELD), "key_id": KEY_ID}


def members() -> Iterator[Vector]:
    for name, (place, value) in MEMBERS.items():
        nonce = drawn(f"nonce of member {name}", 12)
        document: Any = value
        for part in reversed(place):
            document = [document] if part == "0" else {part: document}
        with mock.patch.object(os, "urandom", return_value=nonce):
            found: Any = documents.seal_document(local_key(content=FIELD_KEY), document, [place], "person/7")
        for part in place:
            found = found[0] if part == "0" else found[part]
        yield {
            "name": name,
            **_key(),
            "context": "person/7",
            "place": list(place),
            "pointer": documents.pointer(place),
            "content": plain.write(value).decode(),
            "nonce": nonce.hex(),
            "sealed": found,
        }


def files() -> Iterator[Vector]:
    for name, (size, context, file_name) in FILES.items():
        file_key, nonce = drawn(f"file key of {name}", 32), drawn(f"nonce of file {name}", 12)
        content = hashlib.shake_256(name.encode()).digest(size)
        target = io.BytesIO()
        with mock.patch.object(os, "urandom", side_effect=[file_key, nonce]):
            seal_file(local_key(content=FIELD_KEY), io.BytesIO(content), target, context, name=file_name)
        found = target.getvalue()
        small = {"file": found.hex()} if size < 100 else {}
        yield {
            "name": name,
            **_key(),
            "context": context,
            "about": {"name": file_name} if file_name else {},
            "file_key": file_key.hex(),
            "nonce": nonce.hex(),
            "content_seed": name,
            "content_bytes": size,
            "file_bytes": len(found),
            **small,
            "file_sha256": hashlib.sha256(found).hexdigest(),
        }


def layouts() -> Iterator[Vector]:
    """The same value in each layout, suite and padding. One that is bound to its document only has no pointer."""
    for layout in markers.WRITERS:
        for suite, padded in ((suite, padded) for suite in SUITES for padded in (False, True)):
            yield _layout(f"{layout}, suite {suite}{', padded' if padded else ''}", layout, suite, padded)
        yield _layout(f"{layout}, bound to the document", layout, 1, False, bind="document")


def _layout(name: str, layout: markers.Layout, suite: int, padded: bool, bind: documents.Bind = "path") -> Vector:
    key = local_key(suite, padded, content=FIELD_KEY)
    nonce = drawn(f"nonce of {name}", SUITES[suite].nonce_bytes)
    with mock.patch.object(os, "urandom", return_value=nonce):
        sealed = documents.seal_document(key, {"ssn": SSN}, ["ssn"], "person/7", layout=layout, bind=bind)
    # The time is not authenticated.
    found = sealed["ssn"] | ({"encryptedAt": TIME} if layout == "record" else {})
    pointer = "/ssn" if bind == "path" else None
    place = {"context": "person/7", "pointer": pointer}
    return {"name": name, **_key(), **place, "content": f'"{SSN}"', "sealed": found}


def malformed_members() -> Iterator[Vector]:
    """What must not open. The envelope in each is a good one."""
    parts, record = (_layout("", layout, 1, False)["sealed"] for layout in ("parts", "record"))
    iv, ciphertext = parts["iv"], parts["ciphertext"]
    broken: dict[str, Vector] = {
        "compact, not base64": {"$envelope": "4QEAAAAH!"},
        "compact, a number": {"$envelope": 7},
        "compact, a further member": {**_layout("", "compact", 1, False)["sealed"], "x": 1},
        "parts, a further member": {**parts, "x": 1},
        "parts, a member missing": {name: part for name, part in parts.items() if name != "algorithm"},
        "parts, not encrypted": {**parts, "__encrypted": False},
        "parts, __encrypted is 1": {**parts, "__encrypted": 1},
        "parts, key id as text": {**parts, "version": "7"},
        "parts, key id is true": {**parts, "version": True},
        "parts, another key id": {**parts, "version": 8},
        "parts, key id beyond 32 bits": {**parts, "version": 1 << 32},
        "parts, another algorithm": {**parts, "algorithm": "chacha20-poly1305"},
        "parts, algorithm in capitals": {**parts, "algorithm": "AES-256-GCM"},
        "parts, padding claimed": {**parts, "algorithm": "aes-256-gcm+padme"},
        "parts, a byte of the nonce moved": {**parts, **_moved(iv, ciphertext)},
        "record, key id as a number": {**record, "keyId": 7},
        "record, a member missing": {name: part for name, part in record.items() if name != "salt"},
        "record, key id with a sign": {**record, "keyId": "+7"},
        "record, key id with a zero": {**record, "keyId": "07"},
        "record, no tag": {**record, "tag": ""},
    }
    for name, found in broken.items():
        yield {"name": name, **_key(), "context": "person/7", "pointer": "/ssn", "sealed": found}


def _moved(iv: str, ciphertext: str) -> Vector:
    """The same bytes, cut in another place."""
    whole = base64.b64decode(iv) + base64.b64decode(ciphertext)
    return {"iv": base64.b64encode(whole[:11]).decode(), "ciphertext": base64.b64encode(whole[11:]).decode()}


def malformed_files() -> Iterator[Vector]:
    """What must not open. `parts` says what each is: a place and a length in the good file, or bytes in hex."""
    good = next(vector for vector in files() if vector["name"] == "three chunks")
    start = good["file_bytes"] - 2 * SEALED_CHUNK - 100 - TAG_BYTES
    head, first, second = (0, start), (start, SEALED_CHUNK), (start + SEALED_CHUNK, SEALED_CHUNK)
    third = start + 2 * SEALED_CHUNK, 100 + TAG_BYTES
    empty = Chunks(bytes.fromhex(good["file_key"])).seal(2, True, b"").hex()
    changed: dict[str, list[tuple[int, int] | str]] = {
        "nothing": [],
        "no chunk": [head],
        "header cut": [(0, start - 1)],
        "another magic": [MAGIC[:-2].hex() + "320a", (len(MAGIC), good["file_bytes"] - len(MAGIC))],
        "a length beyond 65,536": [(0, 8), "00010001", (12, good["file_bytes"] - 12)],
        "a byte behind the envelope": [(0, start - 1), "01", first, second, third],
        "last chunk missing": [head, first, second],
        "last chunk cut": [(0, good["file_bytes"] - 1)],
        "a byte added": [(0, good["file_bytes"]), "00"],
        "a chunk missing": [head, first, third],
        "chunks exchanged": [head, second, first, third],
        "a chunk repeated": [head, first, first, second, third],
        "an empty last chunk": [head, first, second, empty],
        "another file's chunk": [head, first, second, Chunks(bytes(32)).seal(2, True, b"x" * 100).hex()],
    }
    for name, parts in changed.items():
        yield {**good, "name": name, "of": good["name"], "parts": parts}
