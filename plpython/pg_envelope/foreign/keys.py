"""A legacy key: what people have in a file, in one of the forms in which libraries write keys."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pg_envelope.foreign.bad import FAILS, BadLayout, NotOpened
from pg_envelope.foreign.encodings import from_base64, from_hex


@dataclass(frozen=True)
class LegacyKey:
    """`secrets` are in the order in which they are tried. `named` has keys that values name, and a library's settings.

    Its repr shows nothing of them.
    """

    form: str
    secrets: tuple[bytes, ...] = field(repr=False)
    named: dict[str, bytes] = field(default_factory=dict, repr=False)

    def stored(self) -> bytes:
        """Returns the key as one content, which is sealed before it is stored."""
        told = {
            "form": self.form,
            "secrets": [base64.b64encode(secret).decode() for secret in self.secrets],
            "named": {name: base64.b64encode(secret).decode() for name, secret in self.named.items()},
        }
        return json.dumps(told).encode()

    @classmethod
    def of_stored(cls, content: bytes) -> LegacyKey:
        told = json.loads(content)
        named = {name: base64.b64decode(secret) for name, secret in told["named"].items()}
        return cls(told["form"], tuple(base64.b64decode(secret) for secret in told["secrets"]), named)


def parse(form: str, content: bytes) -> LegacyKey:
    """Reads the content of a key file. Raises BadLayout, whose text holds nothing of the content."""
    if form not in FORMS:
        raise BadLayout("the format of the key is unknown", hint=f"Formats: {', '.join(FORMS)}.")
    try:
        found = FORMS[form](form, content)
    except FAILS:
        found = LegacyKey(form, ())
    if not any((*found.secrets, *found.named.values())):
        raise BadLayout(f"the file holds no key of the format {form}", hint="docs/adopt.md describes the formats.")
    return found


def _lines(content: bytes) -> list[bytes]:
    return [line.strip() for line in content.splitlines() if line.strip()]


def _raw(form: str, content: bytes) -> LegacyKey:
    return LegacyKey(form, (content,))


def _text(form: str, content: bytes) -> LegacyKey:
    """A passphrase, with every space that it has. A file ends with a newline, which is no part of it."""
    return LegacyKey(form, (content.removesuffix(b"\n").removesuffix(b"\r"),))


def _texts(form: str, content: bytes) -> LegacyKey:
    return LegacyKey(form, tuple(_lines(content)))


def _hex(form: str, content: bytes) -> LegacyKey:
    return LegacyKey(form, tuple(map(from_hex, _lines(content))))


def _base64(form: str, content: bytes) -> LegacyKey:
    # Laravel writes base64: in front of its keys.
    return LegacyKey(form, tuple(from_base64(line.removeprefix(b"base64:")) for line in _lines(content)))


def _fernet(form: str, content: bytes) -> LegacyKey:
    found = tuple(map(from_base64, _lines(content)))
    if any(len(secret) != 32 for secret in found):
        raise NotOpened
    return LegacyKey(form, found)


def _jwk(form: str, content: bytes) -> LegacyKey:
    """A JSON Web Key or a set of them: symmetric keys as they are, RSA keys as PKCS #8."""
    told = json.loads(content)
    return LegacyKey(form, tuple(map(_of_jwk, told.get("keys", [told]))))


def _of_jwk(told: dict[str, str]) -> bytes:
    if told["kty"] == "oct":
        return from_base64(told["k"].encode())
    if told["kty"] != "RSA":
        raise NotOpened
    number = {name: int.from_bytes(from_base64(told[name].encode()), "big") for name in ("n", "e", "d", "p", "q")}
    n, e, d, p, q = number.values()
    dmp1, dmq1, iqmp = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    public = rsa.RSAPublicNumbers(e, n)
    return _pkcs8(rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, public).private_key())


def _pem(form: str, content: bytes) -> LegacyKey:
    found = serialization.load_pem_private_key(content, None)
    if not isinstance(found, rsa.RSAPrivateKey):
        raise NotOpened
    return LegacyKey(form, (_pkcs8(found),))


def _pkcs8(key: rsa.RSAPrivateKey) -> bytes:
    kind, how = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
    return key.private_bytes(kind, how, serialization.NoEncryption())


def _openpgp(form: str, content: bytes) -> LegacyKey:
    from pg_envelope.foreign.openpgp.armor import dearmored
    from pg_envelope.foreign.openpgp.secret_keys import secret_keys

    binary = dearmored(content)
    secret_keys(binary)
    return LegacyKey(form, (binary,))


RAILS = ("primary_key", "deterministic_key", "key_derivation_salt")


DEFUSE_HEADER = bytes.fromhex("def00000")


def _defuse(form: str, content: bytes) -> LegacyKey:
    """PHP's defuse/php-encryption writes a header, 32 bytes of key, and SHA-256 of both, as hex."""
    found = from_hex(content.strip())
    told, checksum = found[:-32], found[-32:]
    if len(told) != 36 or not told.startswith(DEFUSE_HEADER) or hashlib.sha256(told).digest() != checksum:
        raise NotOpened
    return LegacyKey(form, (told[4:],))


def _rails(form: str, content: bytes) -> LegacyKey:
    """JSON of the members of Rails' credentials under active_record_encryption. A key may be a list of keys."""
    told = json.loads(content)
    salt = told["key_derivation_salt"].encode()
    keys = [key for name in RAILS[:2] for key in _listed(told.get(name, []))]
    return LegacyKey(form, tuple(key.encode() for key in keys), {"salt": salt})


def _listed(found: Any) -> list[str]:
    return [found] if isinstance(found, str) else list(found)


def _vault(form: str, content: bytes) -> LegacyKey:
    """What `vault read transit/export/encryption-key/NAME` shows in the format JSON, or its member `keys` alone."""
    told = json.loads(content)
    keys = told.get("data", told).get("keys", told)
    named = {f"v{int(version)}": from_base64(key.encode()) for version, key in keys.items()}
    return LegacyKey(form, tuple(named.values()), named)


def _tink(form: str, content: bytes) -> LegacyKey:
    """A JSON keyset in the clear. Its keys are protobuf messages in which field 3 is the key."""
    found = {}
    for key in json.loads(content)["key"]:
        value = from_base64(key["keyData"]["value"].encode())
        start = value.index(b"\x1a") + 2
        found[f"{int(key['keyId']):08x}"] = value[start : start + value[start - 1]]
    return LegacyKey(form, tuple(found.values()), found)


def _mongo(form: str, content: bytes) -> LegacyKey:
    """JSON of data keys in the clear: the uuid of each as hex, and its 96 bytes as base64."""
    keys = {str(name).replace("-", ""): from_base64(key.encode()) for name, key in json.loads(content).items()}
    if any(len(name) != 32 or len(key) != 96 for name, key in keys.items()):
        raise NotOpened
    return LegacyKey(form, tuple(keys.values()), keys)


FORMS: dict[str, Callable[[str, bytes], LegacyKey]] = {
    "text": _text,
    "texts": _texts,
    "raw": _raw,
    "hex": _hex,
    "base64": _base64,
    "fernet": _fernet,
    "jwk": _jwk,
    "pem": _pem,
    "openpgp-armored": _openpgp,
    "rails": _rails,
    "defuse": _defuse,
    "django": _texts,
    "vault": _vault,
    "tink": _tink,
    "mongo": _mongo,
}
