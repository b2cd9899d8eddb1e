"""Vectors of documents and files (FORMAT.md sections 9 and 10), made by the package from fixed inputs."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from unittest import mock

from pg_envelope_client.sealing import documents, plain
from pg_envelope_client.sealing.files import CHUNK, seal_file
from tests.vectors.local import FIELD, local_key
from tests.vectors.records import drawn

FIELD_KEY = drawn("key of files", 32)
KEY_ID = 7
MEMBERS: dict[str, tuple[tuple[str, ...], Any]] = {
    "text": (("ssn",), "078-05-1120"),
    "in a list": (("cards", "0", "pan"), "4111"),
    "odd names": (("a/b", "c~d"), {"$date": "no date", "x": [1, 1.5, None, True]}),
    "looks like a tag": (("x",), {"$date": "no date"}),
    "types": (("x",), [Decimal("1.50"), b"\x00\xff", float("inf")]),
}
FILES: dict[str, tuple[int, str, str | None]] = {
    "empty": (0, "", None),
    "short": (5, "inbox/7", "Zoë.txt"),
    "one whole chunk": (CHUNK, "", "a"),
    "a chunk and a byte": (CHUNK + 1, "ctx", None),
    "three chunks": (2 * CHUNK + 100, "ctx", "b"),
}

Vector = dict[str, Any]


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
            "field_key": FIELD_KEY.hex(),
            "field_uuid": str(FIELD),
            "key_id": KEY_ID,
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
            "field_key": FIELD_KEY.hex(),
            "field_uuid": str(FIELD),
            "key_id": KEY_ID,
            "context": context,
            "about": {"name": file_name} if file_name else {},
            "file_key": file_key.hex(),
            "nonce": nonce.hex(),
            "content_seed": name,
            "content_bytes": size,
            **small,
            "file_sha256": hashlib.sha256(found).hexdigest(),
        }
