"""Writes format1.json: vectors of FORMAT.md version 1, made by the package from fixed inputs.

Run it: python -m tests.vectors.generate. A change of its output is a change of the format, which there must not be.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from pg_envelope import buckets, derivation, grams, leaf_paths, leaves, padding
from pg_envelope.backend.search import normalize
from pg_envelope.broker.kms.providers import base, seal
from pg_envelope.envelope import FieldKey, header
from pg_envelope.normalizers import CONTAINS, MATCH
from pg_envelope.suites import SUITES
from pg_envelope.tokens import EVERY_PATTERN, MOST_GRAMS, TokenKey
from tests.vectors import keys, placed, reads, records, sealed
from tests.vectors.local import FIELD, OTHER_FIELD
from tests.vectors.records import DATABASE, drawn

FILE = Path(__file__).with_name("format1.json")
CONTENTS = {
    "empty": b"",
    "short": b"a@b.c",
    "unicode, several lines": "Zoë Ångström\n日本語 🦉\te\u0301".encode(),
    "bytes that look like padding": b"\x80\x00\x80\x00\x00",
}
LARGE = {1: 1 << 20, 2: 1 << 20, 3: 1 << 20, 4: 1 << 20, 5: 1 << 16}
ROW_KEYS = {
    "bound by column": [],
    "empty row key": [""],
    "unicode row key": ["Ærø 🦉"],
    "two columns": ["7", "12:34"],
    "two columns, cut elsewhere": ["71", "2:34"],
    "three columns, one empty, one beyond the first plane": ["", "🦉🦉", "-1"],
}
BOUND = {"named key": ["invoice 7"], "secret": ["secret 1"], "tenant scope": ["ac:me", "42"]}
KEY_IDS = {"lowest key id": 1, "highest key id": 0xFFFFFFFF}
PADME = [0, 1, 2, 3, 7, 8, 9, 16, 17, 33, 100, 129, 255, 256, 257, 1000, 4097, 65537, 1 << 20, (1 << 20) + 1, 1 << 29]

# Normaliser, a value's text, and what is left of it.
# Texts, and what the fold makes of them.
GRAMS = {
    "letters": ("Äb", "ab"),
    "empty": ("", ""),
    "one letter": ("Z", "z"),
    "repeated": ("abababab", "abababab"),
    "marks and ligatures": ("Zoë ﬁ İI ı ß", "zoe fi ii i ss"),
    "too many": (LONG := " ".join(map(str, range(300))), LONG),
}
# Normaliser, the equality text of a value, and its buckets.
BUCKETS = {
    "month": ("range-month/1", "1990-02-14", "month 23881, year 1990, decade 199"),
    "first day of the scale": ("range-day/1", "1500-01-01", "day 547499, month 18000, year 1500, decade 150"),
    "leap day": ("range-day/1", "2000-02-29", "day 730179, month 24001, year 2000, decade 200"),
    "last moment": ("range-year/1", "2499-12-31 23:59:59.999999+00", "year 2499, decade 249"),
    "too early": ("range-month/1", "1499-12-31", "below"),
    "too late": ("range-day/1", "2500-01-01 00:00:00", "above"),
    "before Christ": ("range-year/1", "2024-03-15 BC", "below"),
    "infinite": ("range-day/1", "infinity", "above"),
    "number": ("range-1000/1", "42123.50", "1000 42, 10000 4, 100000 0, 1000000 0"),
    "negative": ("range-0.25/1", "-0.26", "0.25 -2, 2.5 -1, 25 -1, 250 -1"),
    "least number": ("range-7/1", "-700000", "7 -100000, 70 -10000, 700 -1000, 7000 -100"),
    "too small": ("range-7/1", "-700000.000001", "below"),
    "too large": ("range-7/1", "1e+300", "above"),
    "no number": ("range-7/1", "NaN", "above"),
}
# The canonical text of a jsonb, and its leaves.
LEAVES: dict[str, tuple[str, list[str] | None]] = {
    "worked example": ('{"a": [1.50, "x"]}', ["={}", '."a"=[]', '."a"[]=1.5', '."a"[]="x"']),
    "scalars": (
        '["b", 10, null, true]',
        ["=[]", '[]="b"', '="b"', "[]=10", "=10", "[]=null", "=null", "[]=true", "=true"],
    ),
    "text": ('"Zoë 🦉"', ['="Zoë 🦉"']),
    "quoted": ('{"\\"": "\\\\", "": {}}', ["={}", '."\\""="\\\\"', '.""={}']),
    "arrays": ("[[], [[0.00]], -7.10]", ["=[]", "[]=[]", "[][]=[]", "[][][]=0", "[]=-7.1", "=-7.1"]),
    "too many": (json.dumps(list(range(250))), None),
    "too deep": ("[" * 102 + "]" * 102, None),
}
# Normaliser, the canonical text of a jsonb, and its leaves.
LEAVES_OF_PATHS: dict[str, tuple[str, str, list[str] | None]] = {
    "of paths": (
        "contains-a.b,c/1",
        '{"a": {"b": [1.0, {"d": "x"}], "bb": 2}, "c": "y", "d": 3}',
        ['."a"."b"=[]', '."a"."b"[]=1', '."a"."b"[]={}', '."a"."b"[]."d"="x"', '."c"="y"'],
    ),
    "of paths in arrays": ("contains-a.b/1", '[{"a": [{"b": null}, 1]}, [{"a": []}], "a"]', ['[]."a"[]."b"=null']),
    "of no path": ("contains-a_1/1", '{"a.1": 1, "A_1": 2}', []),
    "too many, but few at the path": (
        "contains-b/1",
        json.dumps({"a": list(range(500)), "b": True}),
        ['."b"=true'],
    ),
}
TOKENS = {
    "as it is": ("exact/1", "a@b.c", "a@b.c"),
    "empty": ("exact/1", "", ""),
    "unicode": ("exact/1", "Zoë 🦉", "Zoë 🦉"),
    "trimmed": ("trim/1", "\u3000 a b\t\n", "a b"),
    "caseless": ("casefold/1", "Straße İ ﬁ Ⅳ", "strasse i\u0307 fi iv"),
    "composed": ("casefold/1", "A\u030a", "å"),
    "e-mail": ("email/1", " Ada.B+x@Example.ORG ", "ada.b+x@example.org"),
    "digits": ("digits/1", "+49 (30) ١٢3", "4930123"),
    "without accents": ("unaccent/1", "Zoë Ångström", "zoe angstrom"),
    "last four": ("last4/1", "4111-1111-1111-1234", "1234"),
    "fewer than four": ("last4/1", "12", "12"),
    "year": ("year/1", "1912-06-23", "1912"),
    "year before Christ": ("year/1", "0044-03-15 12:00:00+00 BC", "0044 BC"),
    "month": ("month/1", "1912-06-23 10:00:00", "1912-06"),
    "month before Christ": ("month/1", "0044-03-15 BC", "0044-03 BC"),
    "first four": ("prefix4/1", "Ångström", "ångs"),
    "shorter than four": ("prefix4/1", "Ann", "ann"),
    "no year": ("year/1", "-infinity", "-infinity"),
    "year of five digits": ("year/1", "12026-01-02 03:04:05", "12026"),
    "trimmed of a separator": ("trim/1", "\x1f a\u2003b \x85", "a\u2003b"),
    "last one": ("last1/1", "x1y2z", "2"),
    "telephone number": ("phone-DE/1", " +44 20 7946-0018", "+442079460018"),
    "no telephone number": ("phone-DE/1", " none\n", "none"),
}

Vector = dict[str, Any]


DEK, SALT = drawn("DEK", 32), drawn("salt", 32)
# What the vectors of search columns have in common.
SEARCH_KEY = {"key_id": 7, "field_uuid": str(FIELD), "dek": DEK.hex(), "salt": SALT.hex()}


def _seal(key: FieldKey, nonce: bytes, content: bytes, row_key: str) -> bytes:
    """What the package seals, with the nonce that is given here instead of drawn."""
    with mock.patch.object(os, "urandom", return_value=nonce):
        return key.seal(content, row_key.encode())


def _row_key(columns: list[str]) -> str:
    return columns[0] if len(columns) == 1 else "".join(f"{len(column)}:{column}" for column in columns)


def _vector(name: str, suite: int, padded: bool, columns: list[str], content: Vector, key_id: int = 7) -> Vector:
    field_key = derivation.field_key(DEK, SALT, FIELD, key_id)
    key = FieldKey(header(suite, padded, key_id), FIELD.bytes, field_key)
    row_key, nonce = _row_key(columns), drawn(f"nonce of {name}", SUITES[suite].nonce_bytes)
    envelope = _seal(key, nonce, _bytes_of(content), row_key)
    stored = {} if "content_seed" in content else {"envelope": envelope.hex()}
    return {
        "name": name,
        "suite": suite,
        "padded": padded,
        "key_id": key_id,
        "dek": DEK.hex(),
        "salt": SALT.hex(),
        "field_uuid": str(FIELD),
        "field_key": field_key.hex(),
        "row_key_columns": columns,
        "row_key": row_key,
        "aad": (key.aad + row_key.encode()).hex(),
        "nonce": nonce.hex(),
        **content,
        **stored,
        "envelope_sha256": hashlib.sha256(envelope).hexdigest(),
    }


def _bytes_of(content: Vector) -> bytes:
    if "content_seed" in content:
        return hashlib.shake_256(content["content_seed"].encode()).digest(content["content_bytes"])
    return bytes.fromhex(content["content"])


def _envelopes() -> Iterator[Vector]:
    for suite, padded in ((suite, padded) for suite in SUITES for padded in (False, True)):
        title = f"suite {suite}{', padded' if padded else ''}"
        for name, content in CONTENTS.items():
            yield _vector(f"{title}: {name}", suite, padded, ["42"], {"content": content.hex()})
        large = {"content_seed": "large value", "content_bytes": LARGE[suite]}
        yield _vector(f"{title}: {LARGE[suite]} bytes", suite, padded, ["42"], large)
    short = {"content": CONTENTS["short"].hex()}
    for name, columns in ROW_KEYS.items():
        yield _vector(name, 1, False, columns, short)
    for name, columns in BOUND.items():
        yield _vector(name, 1, False, columns, short)
    yield _vector("suite 4, bound by column", 4, False, [], short)
    yield _vector("suite 4, bound by column, tenant scope", 4, False, ["ac:me"], short)
    for name, key_id in KEY_IDS.items():
        yield _vector(name, 1, False, ["42"], short, key_id)


def _malformed() -> Iterator[Vector]:
    for name, (breaks, envelope) in {**_misshapen(), **_altered(), **_badly_padded()}.items():
        yield _refused(name, breaks, envelope)
    envelope = _sealed()
    yield _refused("another row", "tag", envelope, row_key="43")
    yield _refused("bound by column read as bound by row", "tag", _sealed(row_key=""))
    yield _refused("another column", "tag", envelope, field_uuid=str(OTHER_FIELD))
    yield _refused("another field key", "tag", envelope, field_key=drawn("another key", 32).hex())
    yield _refused("another salt", "tag", envelope, field_key=derivation.field_key(DEK, bytes(32), FIELD, 7).hex())
    cut = _sealed(row_key=_row_key(["7", "12:34"]))
    yield _refused("a composite row key cut elsewhere", "tag", cut, row_key=_row_key(["71", "2:34"]))


def _refused(name: str, breaks: str, envelope: bytes, **changed: str) -> Vector:
    """A vector that must fail: always with the one error; `breaks` is the first rule it breaks."""
    place = {"field_key": derivation.field_key(DEK, SALT, FIELD, 7).hex(), "field_uuid": str(FIELD), "row_key": "42"}
    return {"name": name, "fails": "invalid_envelope", "breaks": breaks, **place, **changed, "envelope": envelope.hex()}


def _sealed(suite: int = 1, padded: bool = False, content: bytes = b"a@b.c", row_key: str = "42") -> bytes:
    key = FieldKey(header(suite, padded, 7), FIELD.bytes, derivation.field_key(DEK, SALT, FIELD, 7))
    nonce = drawn(f"nonce for {suite} {content!r}", SUITES[suite].nonce_bytes)
    return _seal(key, nonce, content, row_key)


def _misshapen() -> dict[str, tuple[str, bytes]]:
    envelope = _sealed()
    shapes = {
        "nothing": ("length", b""),
        "header cut": ("length", envelope[:5]),
        "header alone": ("length", envelope[:6]),
        "no tag": ("length", envelope[:18]),
        "one byte below the overhead": ("length", envelope[:33]),
        "suite 2 with the length of suite 1": ("length", _sealed(2, content=b"")[:45]),
        "version 0": ("version", b"\xe0" + envelope[1:]),
        "version 2": ("version", b"\xe2" + envelope[1:]),
        "text": ("version", b"a text that is long enough to be an envelope"),
        "UTF-8 that begins like an envelope": ("tag", "ၤ".encode() + envelope[3:]),
    }
    shapes["suite 4 below the overhead"] = "length", _sealed(4, content=b"")[:21]
    for suite in (0, 6, 0x7F, 0x80, 0x86, 0xFF):
        shapes[f"suite byte {suite:02x}"] = "suite", bytes([0xE1, suite]) + envelope[2:]
    return shapes


def _altered() -> dict[str, tuple[str, bytes]]:
    envelope, other = _sealed(), _sealed(content=b"x@y.z")
    places = {"key id": 5, "nonce": 6, "nonce's end": 17, "ciphertext": 18, "tag": 23, "last byte": len(envelope) - 1}
    altered = {f"bit flipped: {name}": _flipped(envelope, place) for name, place in places.items()}
    altered |= {
        "padding bit set": b"\xe1\x81" + envelope[2:],
        "padding bit cleared": b"\xe1\x01" + _sealed(padded=True)[2:],
        "suite 1 called 3": b"\xe1\x03" + envelope[2:],
        "suite 5 called 1": b"\xe1\x01" + _sealed(5)[2:],
        "suite 1 called 4": b"\xe1\x04" + envelope[2:],
        "suite 4 called 1": b"\xe1\x01" + _sealed(4, content=bytes(12) + b"a@b.c")[2:],
        "suite 4, tag first": _tag_first(_sealed(4)),
        "cut by one byte": envelope[:-1],
        "cut to the overhead": envelope[:34],
        "a byte added": envelope + b"\0",
        "nonce of another": envelope[:6] + other[6:18] + envelope[18:],
        "ciphertext of another": envelope[:18] + other[18:23] + envelope[23:],
        "tag of another": envelope[:23] + other[23:],
        "two envelopes": envelope + other,
    }
    for suite in (2, 3, 4, 5):
        altered[f"suite {suite}, bit flipped: ciphertext"] = _flipped(_sealed(suite), -17)
    return {name: ("tag", content) for name, content in altered.items()}


def _tag_first(envelope: bytes) -> bytes:
    return envelope[:6] + envelope[-16:] + envelope[6:-16]


def _flipped(envelope: bytes, place: int) -> bytes:
    changed = bytearray(envelope)
    changed[place] ^= 0x01
    return bytes(changed)


def _badly_padded() -> dict[str, tuple[str, bytes]]:
    """Envelopes that authenticate and say "padded", but whose plaintext lacks the mark."""
    plaintexts = {"no byte": b"", "zeros only": bytes(8), "no mark": b"a@b.c", "another mark": b"a@b.c\x81\x00"}
    head, nonce = header(1, True, 7), drawn("nonce for bad padding", 12)
    aead = SUITES[1].aead(derivation.field_key(DEK, SALT, FIELD, 7))
    aad = head + FIELD.bytes + b"42"
    return {
        f"padded, {name}": ("padding", head + nonce + aead.encrypt(nonce, plaintext, aad))
        for name, plaintext in plaintexts.items()
    }


def _fingerprints() -> Iterator[Vector]:
    for dek_id in (1, 7, (1 << 63) - 1):
        yield {"dek": DEK.hex(), "dek_id": dek_id, "fingerprint": derivation.fingerprint(DEK, dek_id).hex()}


def _canaries() -> Iterator[Vector]:
    salt = derivation.canary_salt(DEK, drawn("salt of a canary", derivation.DRAWN_BYTES))
    yield {"name": "salt of a canary", "dek": DEK.hex(), "salt": salt.hex(), "is_canary": True}
    yield {"name": "salt of another key", "dek": DEK.hex(), "salt": SALT.hex(), "is_canary": False}
    yield {
        "name": "salt under another DEK",
        "dek": drawn("another DEK", 32).hex(),
        "salt": salt.hex(),
        "is_canary": False,
    }


def _keyring_wraps() -> Iterator[Vector]:
    keks = {str(version): drawn(f"KEK {version}", 32) for version in (1, 2)}
    wrapped = _wrap(keks, "2", 7)
    yield _wrapped("newest KEK version", keks, 7, wrapped, DEK.hex())
    yield _wrapped("older KEK version", keks, 7, _wrap(keks, "1", 7), DEK.hex())
    yield _wrapped("moved to another DEK id", keks, 8, wrapped, None)
    yield _wrapped("moved to another environment", keks, 7, wrapped, None, environment="production")
    yield _wrapped("called another version", keks, 7, wrapped.replace(":v2:", ":v1:"), None)
    yield _wrapped("KEK version unknown", keks, 7, wrapped.replace(":v2:", ":v3:"), None)


def _wrap(keks: dict[str, bytes], version: str, dek_id: int) -> str:
    item = base.Plain(derivation.context("default", DATABASE, dek_id), DEK)
    with mock.patch.object(os, "urandom", return_value=drawn(f"wrap nonce {version}", seal.NONCE_BYTES)):
        return seal.wrap("keyring", int(version), keks[version], item)


def _wrapped(
    name: str, keks: dict[str, bytes], dek_id: int, wrapped: str, dek: str | None, environment: str = "default"
) -> Vector:
    """`dek` is None for a wrap that must not open: unwrap_failed."""
    return {
        "name": name,
        "keks": {version: kek.hex() for version, kek in keks.items()},
        "environment": environment,
        "database_uuid": str(DATABASE),
        "dek_id": dek_id,
        "context": derivation.context(environment, DATABASE, dek_id),
        "wrapped": wrapped,
        "dek": dek,
        "fails": None if dek else "unwrap_failed",
    }


def _search_key() -> TokenKey:
    return TokenKey(derivation.field_key(DEK, SALT, FIELD, 7))


def _grams() -> Iterator[Vector]:
    key = _search_key()
    for name, (text, content) in GRAMS.items():
        assert grams.folded(text) == content
        yield {
            "name": name,
            **SEARCH_KEY,
            "text": text,
            "content": content,
            "grams": key.stored_grams(grams.of_text(content), MATCH),
        }


def _buckets() -> Iterator[Vector]:
    key = _search_key()
    for name, (normalizer, text, made) in BUCKETS.items():
        assert buckets.scale(normalizer).of_value(text) == made.split(", ")
        yield {
            "name": name,
            **SEARCH_KEY,
            "normalizer": normalizer,
            "text": text,
            "buckets": made.split(", "),
            "grams": key.stored_grams(made.split(", "), normalizer),
        }


def _leaves() -> Iterator[Vector]:
    for name, (text, made) in LEAVES.items():
        yield _of_jsonb(name, CONTAINS, text, made)
    for name, (normalizer, text, made) in LEAVES_OF_PATHS.items():
        yield _of_jsonb(name, normalizer, text, made)


def _of_jsonb(name: str, normalizer: str, text: str, made: list[str] | None) -> Vector:
    key, found = _search_key(), leaves.of_value(text, MOST_GRAMS, leaf_paths.of_name(normalizer))
    assert found == (None if made is None else set(made))
    return {
        "name": name,
        **SEARCH_KEY,
        "normalizer": normalizer,
        "text": text,
        "leaves": made,
        "grams": [EVERY_PATTERN] if found is None else key.stored_grams(found, normalizer),
    }


def _tokens() -> Iterator[Vector]:
    for name, (normalizer, text, content) in TOKENS.items():
        field_key = derivation.field_key(DEK, SALT, FIELD, 7)
        assert normalize.normalizer(normalizer)(text) == content
        token = TokenKey(field_key).token(content.encode(), normalizer)
        yield {
            "name": name,
            "key_id": 7,
            "dek": DEK.hex(),
            "salt": SALT.hex(),
            "field_uuid": str(FIELD),
            "normalizer": normalizer,
            "text": text,
            "content": content,
            "token": token.hex(),
        }


def generate() -> str:
    """The text of format1.json."""
    vectors = {
        "about": "Test vectors of FORMAT.md, version 1. Bytes in hex; content_seed: SHAKE-256 of it. See README.md.",
        "envelopes": list(_envelopes()),
        "malformed": list(_malformed()),
        "fingerprints": list(_fingerprints()),
        "canaries": list(_canaries()),
        "keyring_wraps": list(_keyring_wraps()),
        "keyrings": list(keys.keyrings()),
        "secrets_wraps": list(keys.secrets_wraps()),
        "break_glass_files": list(keys.break_glass_files()),
        "tokens": list(_tokens()),
        "grams": list(_grams()),
        "buckets": list(_buckets()),
        "leaves": list(_leaves()),
        "padme": [{"bytes": count, "padded_bytes": padding.padme(count)} for count in PADME],
        "row_keys": records.ROW_KEYS,
        "signatures": list(records.signatures()),
        "sealed_deks": list(records.sealed()),
        "backups": list(records.backups()),
        "ledgers": list(records.ledgers()),
        "rings": list(reads.rings()),
        "read_ledgers": list(reads.ledgers()),
        "named_keys": list(sealed.named_keys()),
        "members": list(sealed.members()),
        "layouts": list(sealed.layouts()),
        "malformed_members": list(sealed.malformed_members()),
        "files": list(sealed.files()),
        "malformed_files": list(sealed.malformed_files()),
        "sealed_backups": list(placed.sealed_backups()),
        "malformed_sealed_backups": list(placed.malformed_sealed_backups()),
        "cache_values": list(placed.cache_values()),
        "number_vectors": list(placed.number_vectors()),
        "placed_files": list(placed.placed_files()),
    }
    return json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(generate())
