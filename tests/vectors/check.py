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
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.vectors import check_keys, check_placed, check_reads, check_records, check_sealed
from tests.vectors.check_envelopes import Malformed, open_envelope, padme, row_key_of, seal, unseal
from tests.vectors.kdf import hkdf

HERE = Path(__file__).parent

Vector = dict[str, Any]
# The units of dates, the narrowest first: section 8.2.
UNITS = ("day", "month", "year", "decade")


def content_of(vector: Vector) -> bytes:
    """A vector's content: in hex, or so many bytes of SHAKE-256 of a seed."""
    if "content_seed" in vector:
        return hashlib.shake_256(vector["content_seed"].encode()).digest(vector["content_bytes"])
    return bytes.fromhex(vector["content"])


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


def check_grams(vector: Vector) -> None:
    """Section 8.1: an HMAC of each three neighbouring characters; the number 0 for a text of too many."""
    content = normalized("match/1", vector["text"])
    assert content == vector["content"]
    info = b"pg_envelope/1 field" + UUID(vector["field_uuid"]).bytes + vector["key_id"].to_bytes(4, "big")
    key = hkdf(bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"]), info, 32)
    whole = f"\x02{content}\x03"
    found = set()
    for three in zip(whole, whole[1:], whole[2:], strict=False):
        message = b"pg_envelope/1 gram\0match/1\0" + "".join(three).encode()
        found.add(int(hmac.new(key, message, hashlib.sha256).hexdigest()[:8], 16))
    assert vector["grams"] == ([0] if len(found) > 400 else sorted(found))


def check_buckets(vector: Vector) -> None:
    """Section 8.2: a bucket of each unit, and an HMAC of each."""
    name = vector["normalizer"].split("/")[0].removeprefix("range-")
    made = _spans(name, vector["text"]) if name in UNITS else _widths(Fraction(name), vector["text"])
    assert vector["buckets"] == made
    info = b"pg_envelope/1 field" + UUID(vector["field_uuid"]).bytes + vector["key_id"].to_bytes(4, "big")
    key = hkdf(bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"]), info, 32)
    grams = set()
    for bucket in made:
        message = b"pg_envelope/1 gram\0" + vector["normalizer"].encode() + b"\0" + bucket.encode()
        grams.add(int(hmac.new(key, message, hashlib.sha256).hexdigest()[:8], 16))
    assert vector["grams"] == sorted(grams)


def _spans(narrowest: str, text: str) -> list[str]:
    if text.endswith("infinity"):
        return ["below" if text.startswith("-") else "above"]
    year, month, day = (int(part) for part in text.split(" ")[0].split("-"))
    if text.endswith(" BC") or year < 1500:
        return ["below"]
    if year > 2499:
        return ["above"]
    # The days of the years before, and of the months before, counted one by one.
    days = sum(366 if _is_leap(before) else 365 for before in range(1, year)) + day
    days += sum((31, 29 if _is_leap(year) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[: month - 1])
    indexes = {"day": days, "month": 12 * year + month - 1, "year": year, "decade": year // 10}
    return [f"{unit} {indexes[unit]}" for unit in UNITS[UNITS.index(narrowest) :]]


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _widths(width: Fraction, text: str) -> list[str]:
    if text in ("NaN", "Infinity"):
        return ["above"]
    if text == "-Infinity" or Fraction(text) < -100000 * width:
        return ["below"]
    if Fraction(text) >= 100000 * width:
        return ["above"]
    units = [width * 10**level for level in range(4)]
    return [f"{_decimal(unit)} {Fraction(text) // unit}" for unit in units]


def _decimal(number: Fraction) -> str:
    """A number of at most six digits behind the point."""
    text = f"{abs(number.numerator) * 10**6 // number.denominator:07d}"
    return "-" * (number < 0) + f"{text[:-6]}.{text[-6:]}".rstrip("0").rstrip(".")


def check_leaves(vector: Vector) -> None:
    """Section 8.3: a leaf of each value within a value, and an HMAC of each."""
    value = json.loads(vector["text"], parse_float=Decimal)
    made = set(_leaves("", value))
    if isinstance(value, list):
        made |= {f"={_scalar(one)}" for one in value if not isinstance(one, dict | list)}
    made = _at_paths(vector["normalizer"], made)
    # In this vector no key has a bracket or a point.
    is_left_out = len(made) > 400 or "[]" * 101 in "".join(made)
    assert vector["leaves"] is None if is_left_out else set(vector["leaves"]) == made
    info = b"pg_envelope/1 field" + UUID(vector["field_uuid"]).bytes + vector["key_id"].to_bytes(4, "big")
    key = hkdf(bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"]), info, 32)
    grams = set()
    for leaf in made:
        message = b"pg_envelope/1 gram\0" + vector["normalizer"].encode() + b"\0" + leaf.encode()
        grams.add(int(hmac.new(key, message, hashlib.sha256).hexdigest()[:8], 16))
    assert vector["grams"] == ([0] if is_left_out else sorted(grams))


def _at_paths(normalizer: str, made: set[str]) -> set[str]:
    """The leaves that a normaliser keeps. A path of the vectors has no key with a sign in it."""
    if normalizer == "contains/1":
        return made
    paths = normalizer.removeprefix("contains-").removesuffix("/1").split(",")
    begins = tuple("".join(f'."{key}"' for key in path.split(".")) for path in paths)
    places = {leaf: leaf.split("=")[0].replace("[]", "") for leaf in made}
    return {leaf for leaf, place in places.items() if f"{place}.".startswith(tuple(f"{one}." for one in begins))}


def _leaves(path: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        inner = [leaf for key in value for leaf in _leaves(path + "." + _quoted(key), value[key])]
        return [path + "={}", *inner]
    if isinstance(value, list):
        return [path + "=[]", *(leaf for one in value for leaf in _leaves(path + "[]", one))]
    return [f"{path}={_scalar(value)}"]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _decimal(Fraction(value))


def _quoted(text: str) -> str:
    return '"' + "".join("\\" + one if one in '\\"' else one for one in text) + '"'


def letters(one: str) -> str:
    """Section 8.1: what is left of one character."""
    marked = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", one).casefold())
    return "".join(letter for letter in marked if unicodedata.combining(letter) == 0)


def normalized(normalizer: str, text: str) -> str:
    """Character by character, as the table of section 8 says."""
    name = normalizer.split("/")[0]
    if name == "match":
        return "".join(map(letters, text)).replace("\u0131", "i")
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
    if name.startswith("phone-"):
        return _telephone(text)
    if name.startswith("prefix"):
        return text[: int(name[6:])]
    return text[-int(name[4:]) :] if name.startswith("last") else text


def _telephone(text: str) -> str:
    """Only of what no country's rules decide: a number with a country code, and a text without a digit."""
    digits = "".join(c for c in text if c in "0123456789")
    return "+" + digits if digits else text.strip()


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
    assert row_key_of([text for _, _, text in [*scope, *key]]) == vector["row_key"]


def check_padme(vector: Vector) -> None:
    assert padme(vector["bytes"]) == vector["padded_bytes"]


def check_canary(vector: Vector) -> None:
    """Section 2: who has the DEK sees in the salt that it is a canary's."""
    salt = bytes.fromhex(vector["salt"])
    mark = hmac.digest(bytes.fromhex(vector["dek"]), b"pg_envelope/1 canary" + salt[:16], "sha256")[:16]
    assert (mark == salt[16:]) is vector["is_canary"]


CHECKS: dict[str, Callable[[Vector], None]] = {
    "envelopes": check_envelope,
    "malformed": check_malformed,
    "fingerprints": check_fingerprint,
    "canaries": check_canary,
    "keyring_wraps": check_wrap,
    "keyrings": check_keys.check_keyring,
    "secrets_wraps": check_keys.check_secrets_wrap,
    "break_glass_files": check_keys.check_break_glass,
    "tokens": check_token,
    "grams": check_grams,
    "buckets": check_buckets,
    "leaves": check_leaves,
    "padme": check_padme,
    "row_keys": check_row_key,
    "signatures": check_records.check_signature,
    "sealed_deks": check_records.check_sealed,
    "backups": check_records.check_backup,
    "ledgers": check_records.check_ledger,
    "rings": check_reads.check_ring,
    "read_ledgers": check_reads.check_read_ledger,
    "named_keys": check_sealed.check_named_key,
    "members": check_sealed.check_member,
    "layouts": check_sealed.check_layout,
    "malformed_members": check_sealed.check_malformed_member,
    "files": check_sealed.check_file,
    "malformed_files": check_sealed.check_malformed_file,
    "sealed_backups": check_placed.check_sealed_backup,
    "malformed_sealed_backups": check_placed.check_malformed_sealed_backup,
    "cache_values": check_placed.check_cache_value,
    "number_vectors": check_placed.check_number_vector,
    "placed_files": check_placed.check_placed_file,
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
