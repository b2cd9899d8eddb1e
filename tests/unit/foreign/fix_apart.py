"""Values whose IV and salt their library keeps in columns of their own: tests/fixtures/foreign/README.md."""

from __future__ import annotations

from typing import Any, NamedTuple

from pg_envelope.foreign.keys import LegacyKey, parse
from tests.unit.foreign.fix_cases import read

IV = {"iv": {"column": "*_iv"}}
RUBY = {"container": "joined", "encoding": "base64", **IV}
BYTES = {"container": "joined", **IV}
GCM = {**RUBY, "order": ["ct", "tag"], "cipher": "aes-256-gcm"}
# The version of the library before 3, with `mode: :per_attribute_iv_and_salt`.
CBC_SALT = {
    **RUBY,
    "order": ["ct"],
    "cipher": "aes-256-cbc",
    "salt": {"column": "*_salt", "prefix": "_"},
    "kdf": {"name": "pbkdf2", "hash": "sha1", "rounds": 2000},
}
SECRETBOX = {**BYTES, "order": ["tag", "ct"], "cipher": "xsalsa20-poly1305"}
PGCRYPTO = {**BYTES, "order": ["ct"], "cipher": "aes-cbc"}
Part = str | bytes


class ApartCase(NamedTuple):
    """Rows of one layout: the value itself, and then its parts in the order in which they come behind it."""

    spec: dict[str, Any]
    form: str
    secret: bytes
    rows: list[tuple[Part, ...]]
    plain: list[str]

    @property
    def key(self) -> LegacyKey:
        return parse(self.form, self.secret)

    @property
    def values(self) -> list[str]:
        """The rows as the view gives them to the reader."""
        return [".".join(map(_hex, row)) for row in self.rows]


def _hex(part: Part) -> str:
    return (part.encode() if isinstance(part, str) else part).hex()


def _ruby(member: str, spec: dict[str, Any]) -> ApartCase:
    found = read("ruby")
    rows = [(row[-1], *row[:-1]) for row in found[member]]
    return ApartCase(spec, "text", found["attr_encrypted_key"].encode(), rows, found["plain"])


def _binary(file: str, member: str, key: str, spec: dict[str, Any]) -> ApartCase:
    found = read(file)
    rows = [(bytes.fromhex(value), bytes.fromhex(iv)) for iv, value in found[member]]
    return ApartCase(spec, "hex", found[key].encode(), list(rows), found["plain"])


APART = {
    "attr_encrypted": _ruby("attr_encrypted", GCM),
    "attr_encrypted_cbc_salt": _ruby("attr_encrypted_cbc_salt", CBC_SALT),
    "secretbox_column": _binary("nacl", "secretbox_column", "key", SECRETBOX),
    "raw_iv_column": _binary("pgcrypto", "raw_iv_column", "rawkey_hex", PGCRYPTO),
}
