"""The layouts that have a name. Most are specifications; the others are schemes in modules of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

from pg_envelope.foreign.bad import BadLayout
from pg_envelope.foreign.contents import content_steps
from pg_envelope.foreign.derivations import derivation, salt_of
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.openers import reader
from pg_envelope.foreign.openpgp import messages
from pg_envelope.foreign.reader import ForeignReader, Opener
from pg_envelope.foreign.schemes import fernet, jwe, laravel, named_keys
from pg_envelope.foreign.specification import layout

Spec = Mapping[str, Any]
GCM, CBC, TEXT64, HEX = {"cipher": "aes-gcm"}, {"cipher": "aes-cbc"}, {"encoding": "base64"}, {"encoding": "hex"}
NODE = {"container": "json", "ct": "ciphertext", "iv": "iv", "tag": "authTag", **GCM}
RAILS = {"container": "json", "ct": "p", "iv": "h.iv", "tag": "h.at", **TEXT64, **GCM, "compressed": "h.c"}
# What `openssl enc` and crypto-js write.
SALTED = {
    "container": "joined",
    "magic": "Salted__",
    "order": ["salt", "ct"],
    "salt_bytes": 8,
    **TEXT64,
    **CBC,
    "iv_from": "derived",
    "key_bytes": 32,
}
SPECIFICATIONS: dict[str, Spec] = {
    "node_json": {**NODE, **TEXT64},
    "node_json_hex": {**NODE, **HEX},
    "node_json_pbkdf2": {
        **NODE,
        **TEXT64,
        "tag": "tag",
        "salt": "salt",
        "kdf": {"name": "pbkdf2", "hash": "sha256", "rounds": 100_000},
    },
    "iv_tag_ct_hex": {"container": "separated", "separator": ":", "order": ["iv", "tag", "ct"], **HEX, **GCM},
    "iv_ct_tag_hex": {"container": "separated", "separator": ":", "order": ["iv", "ct", "tag"], **HEX, **GCM},
    "iv_ct_hex": {"container": "separated", "separator": ":", "order": ["iv", "ct"], **HEX, **CBC},
    "iv_tag_ct_base64": {"container": "separated", "separator": ":", "order": ["iv", "tag", "ct"], **TEXT64, **GCM},
    "joined_iv_ct_tag": {"container": "joined", "order": ["iv", "ct", "tag"], **TEXT64, **GCM},
    "joined_iv_tag_ct": {"container": "joined", "order": ["iv", "tag", "ct"], **TEXT64, **GCM},
    "joined_iv_ct_cbc": {"container": "joined", "order": ["iv", "ct"], **TEXT64, **CBC},
    "lockbox": {"container": "joined", "order": ["iv", "ct", "tag"], **TEXT64, **GCM},
    "sqlalchemy_utils_aesgcm": {
        "container": "joined",
        "order": ["iv", "tag", "ct"],
        **TEXT64,
        **GCM,
        "kdf": {"name": "hash", "hash": "sha256"},
    },
    "sqlalchemy_utils_aes": {
        "container": "joined",
        "order": ["ct"],
        "iv_from": "key",
        "padding": "asterisks",
        **TEXT64,
        **CBC,
        "kdf": {"name": "hash", "hash": "sha256"},
    },
    "sqlalchemy_utils_aes_pkcs5": {
        "container": "joined",
        "order": ["ct"],
        "iv_from": "key",
        **TEXT64,
        **CBC,
        "kdf": {"name": "hash", "hash": "sha256"},
    },
    "rails": {**RAILS, "kdf": {"name": "pbkdf2", "hash": "sha256", "rounds": 65_536}},
    "rails_sha1": {**RAILS, "kdf": {"name": "pbkdf2", "hash": "sha1", "rounds": 65_536}},
    "message_encryptor": {
        "container": "separated",
        "separator": "--",
        "order": ["ct", "iv", "tag"],
        **TEXT64,
        **GCM,
        "content": "json",
    },
    "prisma_field_encryption": {
        "container": "separated",
        "separator": ".",
        "prefix": "v1.aesgcm256.",
        **TEXT64,
        **GCM,
        "order": ["-fingerprint", "iv", "ct"],
    },
    "cryptr": {
        "container": "joined",
        "order": ["salt", "iv", "tag", "ct"],
        "salt_bytes": 64,
        "iv_bytes": 16,
        **HEX,
        **GCM,
        "kdf": {"name": "pbkdf2", "hash": "sha512", "rounds": 100_000},
    },
    "jasypt_aes": {
        "container": "joined",
        "order": ["salt", "iv", "ct"],
        **TEXT64,
        **CBC,
        "kdf": {"name": "pbkdf2", "hash": "sha512", "rounds": 1000},
    },
    "pgcrypto_encrypt": {"container": "joined", "order": ["ct"], "iv_from": "zero", **CBC},
    "pgcrypto_encrypt_iv": {"container": "joined", "order": ["iv", "ct"], **CBC},
    "secretbox": {"container": "joined", "order": ["iv", "tag", "ct"], "cipher": "xsalsa20-poly1305"},
    "secretbox_base64": {"container": "joined", "order": ["iv", "tag", "ct"], "cipher": "xsalsa20-poly1305", **TEXT64},
    "crypto_js": {**SALTED, "kdf": {"name": "evp", "hash": "md5"}},
    "openssl_enc": {**SALTED, "kdf": {"name": "pbkdf2", "hash": "sha256", "rounds": 10_000}},
    "openssl_enc_sha256": {**SALTED, "kdf": {"name": "evp", "hash": "sha256"}},
    "mysql_aes": {"container": "joined", "order": ["ct"], "cipher": "aes-128-ecb", "kdf": {"name": "fold"}},
    # The first byte is a mark. The second one is the length of the key's name, which is AES.GCM.V1 in Cloak's guide.
    "cloak": {
        "container": "joined",
        "magic": "\x01",
        "order": ["-11", "iv", "tag", "ct"],
        "aad": "AES256GCM",
        **GCM,
    },
    "defuse": {
        "container": "joined",
        **HEX,
        "magic": {"constant": "def50200"},
        "order": ["salt", "iv", "ct", "tag"],
        "salt_bytes": 32,
        "cipher": "aes-256-ctr",
        "kdf": {"name": "hkdf", "hash": "sha256", "info": "DefusePHP|V2|KeyForEncryption"},
        "hmac": {
            "hash": "sha256",
            "over": ["magic", "salt", "iv", "ct"],
            "kdf": {"name": "hkdf", "hash": "sha256", "info": "DefusePHP|V2|KeyForAuthentication"},
            "salted": True,
        },
    },
    "sjcl": {
        "container": "json",
        "ct": "ct",
        "iv": "iv",
        "salt": "salt",
        **TEXT64,
        "expected": {"cipher": "aes", "mode": "ccm", "ts": 64, "ks": 128, "iter": 10_000, "adata": ""},
        "cipher": "aes-128-ccm-8",
        "kdf": {"name": "pbkdf2", "hash": "sha256", "rounds": 10_000},
    },
}


class Scheme(NamedTuple):
    """Makes a reader of a key. `shape` raises one of bad.FAILS for a value of another shape."""

    reader: Callable[[LegacyKey], ForeignReader]
    shape: Opener


SCHEMES = {
    "pgp_sym": Scheme(messages.pgp_sym, messages.sym_shape),
    "pgp_sym_crlf": Scheme(partial(messages.pgp_sym, convert_crlf=True), messages.sym_shape),
    "pgp_sym_unchecked": Scheme(partial(messages.pgp_sym, checked=False), messages.sym_shape),
    "pgp_pub": Scheme(messages.pgp_pub, messages.pub_shape),
    "pgp_pub_crlf": Scheme(partial(messages.pgp_pub, convert_crlf=True), messages.pub_shape),
    "fernet": Scheme(fernet.fernet, fernet.shape),
    "django_fernet_fields": Scheme(fernet.django_fernet_fields, fernet.shape),
    "django_cryptography": Scheme(fernet.django_cryptography, fernet.binary_shape),
    "sqlalchemy_utils_fernet": Scheme(fernet.of_passphrase, fernet.shape),
    "laravel": Scheme(laravel.laravel, laravel.shape),
    "laravel_serialized": Scheme(laravel.laravel_serialized, laravel.shape),
    "jwe": Scheme(jwe.jwe, jwe.shape),
    "vault": Scheme(named_keys.vault, named_keys.vault_shape),
    "tink": Scheme(named_keys.tink, named_keys.tink_shape),
    "mongo": Scheme(named_keys.mongo, named_keys.mongo_shape),
}
NAMES = (*SCHEMES, *SPECIFICATIONS)
SLOW_KDFS = ("pbkdf2", "scrypt")
HINT = "docs/adopt.md lists the formats. A specification describes any other layout."


# A specification may begin with a named format and change members of it.
BASE = "format"
# What reads the content of any layout can be told for one that is no specification, too.
OF_SCHEMES = {BASE, "content", "charset"}
WITH_KDF = "fernet"


def reader_of(form: str | Spec, key: LegacyKey) -> ForeignReader:
    """Returns the reader of a layout, by its name or its specification. Raises BadLayout."""
    found = merged(form)
    if not isinstance(found, str):
        return _on_scheme(found, key) if BASE in found else reader(found, key)
    if found in SCHEMES:
        return SCHEMES[found].reader(key)
    return reader(SPECIFICATIONS[found], key)


def merged(form: str | Spec) -> str | Spec:
    """Returns a specification with the members of the format that it names. Raises BadLayout for an unknown name."""
    name = form if isinstance(form, str) else form.get(BASE)
    is_named = isinstance(form, str) or BASE in form
    if is_named and name not in NAMES:
        raise BadLayout("the format is unknown", detail=f"Formats: {', '.join(NAMES)}.", hint=HINT)
    if isinstance(form, str) or name not in SPECIFICATIONS:
        return form
    return {**SPECIFICATIONS[name], **{member: told for member, told in form.items() if member != BASE}}


def _on_scheme(given: Spec, key: LegacyKey) -> ForeignReader:
    """Returns a scheme's reader with other content, or with keys that are derived."""
    name = given[BASE]
    unknown = sorted(set(given) - OF_SCHEMES - ({"kdf"} if name == WITH_KDF else set()))
    if unknown:
        raise BadLayout(f"the format {name} takes content and charset only", detail=", ".join(unknown), hint=HINT)
    found = SCHEMES[name].reader(_derived(given["kdf"], key) if "kdf" in given else key)
    steps = list(content_steps(given))
    return replace(found, opener=lambda value: reduce(lambda content, step: step(content), steps, found.opener(value)))


def _derived(kdf: Any, key: LegacyKey) -> LegacyKey:
    if not isinstance(kdf, dict):
        raise BadLayout("kdf must be an object", hint=HINT)
    derive, salt = derivation(kdf, 32), salt_of(kdf)
    return replace(key, secrets=tuple(derive(secret, salt) for secret in key.secrets))


def shape_of(name: str) -> Opener:
    """Returns the function that raises one of bad.FAILS for a value that does not have this layout's shape."""
    return SCHEMES[name].shape if name in SCHEMES else layout(SPECIFICATIONS[name]).shape


def slow(form: str | Spec) -> bool:
    """Tells whether each value has a key of its own, which takes milliseconds to derive."""
    found = merged(form)
    if isinstance(found, str):
        found = SPECIFICATIONS.get(found, {})
    salted = "container" in found and layout(found).is_salted
    return salted and found.get("kdf", {}).get("name") in SLOW_KDFS
