"""Vectors of sealed backups and of values of applications, made by the package from fixed inputs: FORMAT.md sections 12
and 13.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import derivation, keys_backup
from pg_envelope.suites import TAG_BYTES
from pg_envelope_client import SealedCache, Vector
from pg_envelope_client.backups import head as heads
from pg_envelope_client.backups.head import AboutCluster, BackupHead, Escrow, sealed_about
from pg_envelope_client.django import storage
from pg_envelope_client.sealing.broker import BackupDek
from pg_envelope_client.sealing.bucket import SealedBucket
from pg_envelope_client.sealing.file_table import FileTable, Parts
from pg_envelope_client.sealing.files import CHUNK, SEALED_CHUNK, Chunks, seal_file
from tests.vectors.local import FIELD, local_key
from tests.vectors.records import DATABASE, ENVIRONMENT, PRIVATE, TIME, drawn
from tests.vectors.sealed import FIELD_KEY, KEY_ID

DEK, DEK_ID = drawn("DEK of a backup", 32), heads.FIRST_DEK_ID + 7
# HPKE draws a key for each message, so that this cannot be made again: the package sealed it once.
ESCROW = (
    "keysbackup1:"
    "3XSBoc93eqj37Rl8p1LXIL6eSwT4As5pqK3zvaoCVTJrfHpvWT/CVky7iP2Q"
    "LIseO5Bel7qX57rJu2cZ2UfbP1AnwM6ISRZSNSO19FBu96A="
)
ABOUT = AboutCluster("shop", "postgres", ("app", "postgres", 'Odd "Näme"'))
BACKUPS: dict[str, tuple[str, bool, int]] = {
    "empty, for the KMS only": ("dump", False, 0),
    "short, for both keys": ("dump", True, 5),
    "three chunks, a base backup": ("base", True, 2 * CHUNK + 100),
}
# Prefix, name and value.
CACHED: dict[str, tuple[str, str, str | bytes]] = {
    "bytes": ("shop:", "profile/7", b"\x00\xff"),
    "text, and no prefix": ("", "profile/7", "Zoë 🦉"),
    "a prefix that ends elsewhere": ("shop:p", "rofile/7", b"\x00\xff"),
    "odd names, and nothing": ("é:", "8:profile/7", b""),
}
NUMBERS: dict[str, list[float]] = {
    "empty": [],
    "rounded": [0.1, 1 / 3, -2.5],
    "zeros and the least": [0.0, -0.0, 1e-45, -1.17549435e-38],
    "the greatest": [3.4028234663852886e38, -3.4028234663852886e38],
}
REFUSED_NUMBERS = {"infinite": math.inf, "not a number": math.nan, "too great": 3.5e38}

Told = dict[str, Any]


def _key() -> Told:
    return {"field_key": FIELD_KEY.hex(), "field_uuid": str(FIELD), "key_id": KEY_ID}


class Kept(dict[str, bytes]):
    """What a cache keeps, under the names that it is given."""

    def set(self, name: str, value: bytes, *, px: int | None = None) -> None:
        self[name] = value

    def delete(self, *names: str) -> None:
        for name in names:
            self.pop(name, None)


def cache_values() -> Iterator[Told]:
    for name, (prefix, at, value) in CACHED.items():
        nonce, kept = drawn(f"nonce of cache value, {name}", 12), Kept()
        with mock.patch.object(os, "urandom", return_value=nonce):
            SealedCache(kept, local_key(content=FIELD_KEY), prefix).set(at, value)
        ((stored, envelope),) = kept.items()
        content = value.encode() if isinstance(value, str) else value
        told = {"prefix": prefix, "cache_name": at, "stored_name": stored, "content": content.hex()}
        yield {"name": name, **_key(), **told, "nonce": nonce.hex(), "envelope": envelope.hex()}


def number_vectors() -> Iterator[Told]:
    """`content` is null for numbers that a writer must refuse. JSON has neither infinity nor NaN: texts."""
    for name, numbers in NUMBERS.items():
        yield {"name": name, "numbers": [repr(number) for number in numbers], "content": bytes(Vector(numbers)).hex()}
    for name, number in REFUSED_NUMBERS.items():
        yield {"name": name, "numbers": ["1.0", repr(number)], "content": None}


def placed_files() -> Iterator[Told]:
    """A file in each place. `parts` are the lengths of the rows of a table."""
    key, name, nobody = local_key(content=FIELD_KEY), "in/Zoë 7.pdf", cast(Any, None)
    places: dict[str, tuple[list[str], str]] = {
        "table": ([name], FileTable(nobody, key, "files")._context(name)),
        "s3": (["bucket", name], SealedBucket(nobody, "bucket", key)._context(name)),
        "django": ([name], storage._context(name)),
    }
    for place, (names, context) in places.items():
        file_key, nonce = drawn(f"file key of {place}", 32), drawn(f"nonce of file in {place}", 12)
        content, target = hashlib.shake_256(place.encode()).digest(CHUNK + 9), io.BytesIO()
        with mock.patch.object(os, "urandom", side_effect=[file_key, nonce]):
            seal_file(key, io.BytesIO(content), target, context)
        found = target.getvalue()
        told = {"place": place, "names": names, "context": context, "about": {}, "file_key": file_key.hex()}
        told |= {"nonce": nonce.hex(), "content_seed": place, "content_bytes": len(content)}
        told |= {"file_bytes": len(found), "file_sha256": hashlib.sha256(found).hexdigest()}
        yield {"name": place, **_key(), **told, "parts": _parts(found) if place == "table" else None}


def _parts(content: bytes) -> list[int]:
    lengths: list[int] = []
    parts = Parts(lambda _, part: lengths.append(len(part)))
    parts.write(content)
    parts.end()
    return lengths


def _head(name: str, kind: str, with_escrow: bool) -> BackupHead:
    public = keys_backup.public_text(X25519PrivateKey.from_private_bytes(PRIVATE).public_key())
    dek = BackupDek(DEK_ID, "default", "vault:v1:" + "A" * 8, derivation.fingerprint(DEK, DEK_ID))
    head = BackupHead(
        label=name.split(",")[0].replace(" ", "-"),
        kind=kind,
        made=TIME,
        database=DATABASE,
        dek=dek,
        field=FIELD,
        salt=drawn(f"salt of backup {name}", 32),
        escrow=Escrow(ENVIRONMENT, public, ESCROW) if with_escrow else None,
        about=b"",
    )
    return replace(head, about=sealed_about(head.file_key(DEK), ABOUT))


def sealed_backups() -> Iterator[Told]:
    """`file` has the head and all chunks; of a large one its hash is here. `private_key` is the break-glass key's."""
    for name, (kind, with_escrow, size) in BACKUPS.items():
        head = _head(name, kind, with_escrow)
        file_key, target = head.file_key(DEK), io.BytesIO()
        content = hashlib.shake_256(name.encode()).digest(size)
        target.write(head.written())
        head.chunks(file_key).seal_all(io.BytesIO(content), target)
        found = target.getvalue()
        told = {"dek": DEK.hex(), "private_key": PRIVATE.hex() if with_escrow else None, "file_key": file_key.hex()}
        told |= {"about": {**ABOUT._asdict(), "roles": list(ABOUT.roles)}}
        told |= {"text": head.written()[len(heads.MAGIC) + heads.LENGTH_BYTES :].decode()}
        told |= {"content_seed": name, "content_bytes": size, "file_bytes": len(found)}
        yield {"name": name, **told, "file_sha256": hashlib.sha256(found).hexdigest()}


def malformed_sealed_backups() -> Iterator[Told]:
    """What must not open. `parts` says what each is: a place and a length in the good file, or bytes in hex."""
    good = next(vector for vector in sealed_backups() if vector["name"] == "three chunks, a base backup")
    start = good["file_bytes"] - 2 * SEALED_CHUNK - 100 - TAG_BYTES
    head, first, second = (0, start), (start, SEALED_CHUNK), (start + SEALED_CHUNK, SEALED_CHUNK)
    third = start + 2 * SEALED_CHUNK, 100 + TAG_BYTES
    bound = hashlib.sha256(heads.MAGIC + (start - 12).to_bytes(4, "big") + good["text"].encode()).digest()
    empty = Chunks(bytes.fromhex(good["file_key"]), bound).seal(2, True, b"").hex()
    changed: dict[str, list[tuple[int, int] | str]] = {
        "nothing": [],
        "no chunk": [head],
        "head cut": [(0, start - 1)],
        "another magic": [b"pgenvf1\n".hex(), (8, good["file_bytes"] - 8)],
        "a length beyond 1 MiB": [(0, 8), "00100001", (12, good["file_bytes"] - 12)],
        "last chunk missing": [head, first, second],
        "last chunk cut": [(0, good["file_bytes"] - 1)],
        "a byte added": [(0, good["file_bytes"]), "00"],
        "a chunk missing": [head, first, third],
        "chunks exchanged": [head, second, first, third],
        "an empty last chunk": [head, first, second, empty],
        **{name: [_text(other).hex(), first, second, third] for name, other in _other_heads(good["text"]).items()},
    }
    for name, parts in changed.items():
        yield {**good, "name": name, "of": good["name"], "parts": parts}
    yield from _unwritten_heads()


def _unwritten_heads() -> Iterator[Told]:
    """Heads that no writer writes, before a chunk that is tied to each of them and opens."""
    good = next(vector for vector in sealed_backups() if vector["content_bytes"] == 5)
    content = hashlib.shake_256(good["content_seed"].encode()).digest(5)
    for name, text in _unwritten(good["text"]).items():
        chunks = Chunks(bytes.fromhex(good["file_key"]), hashlib.sha256(_text(text)).digest())
        yield {**good, "name": name, "of": good["name"], "parts": [(_text(text) + chunks.seal(0, True, content)).hex()]}


def _text(text: str) -> bytes:
    return heads.MAGIC + len(text.encode()).to_bytes(4, "big") + text.encode()


def _other_heads(text: str) -> dict[str, str]:
    """Heads that could be, before the chunks of another one."""
    return {
        "head: another label": text.replace('"three-chunks"', '"three-chunkz"'),
        "head: another kind": text.replace('"base"', '"dump"'),
        "head: another time": text.replace(TIME, TIME.replace("2026", "2027")),
        "head: without the break-glass key": _without_escrow(text),
    }


def _without_escrow(text: str) -> str:
    return text[: text.index('"break_glass"')] + '"break_glass":null,' + text[text.index('"about"') :]


def _unwritten(text: str) -> dict[str, str]:
    return {
        "head: an unknown kind": text.replace('"dump"', '"tape"'),
        "head: a space": text.replace('":', '": ', 1),
        "head: a line end": text + "\n",
        "head: a member more": text[:-1] + ',"x":1}',
        "head: a member twice": text[:-1] + ',"kind":"dump"}',
        "head: members in another order": '{"label":"short",' + text[1:].replace('"label":"short",', ""),
        "head: version 2": text.replace('"pg_envelope_backup":1', '"pg_envelope_backup":2'),
        "head: version true": text.replace('"pg_envelope_backup":1', '"pg_envelope_backup":true'),
        "head: key id 2": text.replace('"key_id":1', '"key_id":2'),
        "head: another store": text.replace('"catalog"', '"vault"'),
        "head: a DEK id of the catalog": text.replace(str(DEK_ID), "7"),
        "head: a DEK id beyond 63 bits": text.replace(str(DEK_ID), str(1 << 63)),
        "head: a time without an offset": text.replace(TIME, TIME.removesuffix("+00:00")),
        "head: a time that is none": text.replace(TIME, "soon"),
        "head: a label with a path": text.replace('"short"', '"../up"'),
        "head: uuid in capitals": text.replace(str(FIELD), str(FIELD).upper()),
        "head: not ASCII": text.replace('"default"', '"défault"'),
    }
