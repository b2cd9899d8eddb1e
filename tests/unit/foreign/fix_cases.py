"""The layouts with values that their own libraries made: tests/fixtures/foreign/README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pg_envelope.foreign.ciphers import cbc
from pg_envelope.foreign.encodings import base64_of
from pg_envelope.foreign.keys import LegacyKey, parse

FOLDER = Path(__file__).parents[2] / "fixtures/foreign"
# Not a preset: OpenSSL with another number of rounds.
ROUNDS = {
    "container": "joined",
    "magic": "Salted__",
    "order": ["salt", "ct"],
    "salt_bytes": 8,
    "encoding": "base64",
    "cipher": "aes-256-cbc",
    "iv_from": "derived",
    "kdf": {"name": "pbkdf2", "hash": "sha256", "rounds": 100_000},
}


SYM = {"pgp_sym_nomdc": "pgp_sym_unchecked"}


class Case(NamedTuple):
    """Values of one layout. `secret` is the content of the key file."""

    layout: str | Mapping[str, Any]
    form: str
    secret: bytes
    values: list[str | bytes]
    plain: list[str]

    @property
    def key(self) -> LegacyKey:
        return parse(self.form, self.secret)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def case(
    file: str, member: str, layout: str | Mapping[str, Any], form: str, secret: str | bytes, *, binary: bool = False
) -> Case:
    found = read(file)
    values = [bytes.fromhex(value) for value in found[member]] if binary else found[member]
    return Case(layout, form, secret.encode() if isinstance(secret, str) else secret, values, found["plain"])


def _pgcrypto() -> dict[str, Case]:
    found = read("pgcrypto")
    secret = found["passphrase"]
    sym = [name for name in found if name.startswith("pgp_sym_")]
    cases = {
        name: case("pgcrypto", name, SYM.get(name, "pgp_sym"), "text", secret, binary=name != "pgp_sym_armor")
        for name in sym
    }
    private, raw = (FOLDER / "pgp.sec").read_bytes(), found["rawkey_hex"]
    cases["pgp_pub"] = case("pgcrypto", "pgp_pub", "pgp_pub", "openpgp-armored", private, binary=True)
    cases["raw_aes"] = case("pgcrypto", "raw_aes", "pgcrypto_encrypt", "hex", raw, binary=True)
    cases["raw_iv"] = case("pgcrypto", "raw_iv_prefix", "pgcrypto_encrypt_iv", "hex", raw, binary=True)
    return cases


def _python() -> dict[str, Case]:
    fernet, sau = read("fernet"), read("sau")["key"]
    django, fields = read("django_cryptography")["secret_key"], read("django_fernet_fields")["fernet_keys"]
    return {
        "fernet": case("fernet", "fernet", "fernet", "fernet", fernet["keys"][0]),
        "multifernet": case("fernet", "multi", "fernet", "fernet", "\n".join(fernet["keys"])),
        "django_cryptography": case("django_cryptography", "v", "django_cryptography", "django", django, binary=True),
        "django_fernet_fields": case(
            "django_fernet_fields", "v", "django_fernet_fields", "texts", fields[0], binary=True
        ),
        "sau_aes": case("sau", "aes", "sqlalchemy_utils_aes", "text", sau),
        "sau_aes_pkcs5": case("sau", "aes_pkcs5", "sqlalchemy_utils_aes_pkcs5", "text", sau),
        "sau_aesgcm": case("sau", "aesgcm", "sqlalchemy_utils_aesgcm", "text", sau),
        "sau_fernet": case("sau", "fernet", "sqlalchemy_utils_fernet", "text", sau),
    }


def _node() -> dict[str, Case]:
    key, master = read("node")["key"], read("node")["master"]
    layouts = {
        "v1": "node_json",
        "v1_iv16_hex": "node_json_hex",
        "colon_hex": "iv_tag_ct_hex",
        "cbc_colon": "iv_ct_hex",
        "concat_b64": "joined_iv_ct_tag",
        "concat_tagmid_b64": "joined_iv_tag_ct",
    }
    cases = {f"node_{name}": case("node", name, layout, "hex", key) for name, layout in layouts.items()}
    cases["node_pbkdf2"] = case("node", "pbkdf2", "node_json_pbkdf2", "text", master)
    cases["crypto_js"] = case("cryptojs", "aes", "crypto_js", "text", read("cryptojs")["pass"])
    return cases


def _ruby() -> dict[str, Case]:
    config, ruby = json.dumps(read("rails")["config"]), read("ruby")
    cases = {f"rails_{name}": case("rails", name, "rails", "rails", config) for name in ("email", "det", "keyref")}
    cases["rails_sha1"] = case("rails", "email_sha1", "rails_sha1", "rails", config)
    cases["lockbox"] = case("ruby", "lockbox", "lockbox", "hex", ruby["attribute_key"])
    encryptor = ruby["attr_encrypted_key"]
    cases["message_encryptor"] = case("ruby", "message_encryptor", "message_encryptor", "text", encryptor)
    return cases


def _others() -> dict[str, Case]:
    jose, word = read("jose"), read("openssl_enc")["passw"]
    cases = {f"jwe_{name}": case("jose", name, "jwe", "jwk", jose["oct"]) for name in ("dir", "a256kw", "json")}
    cases["jwe_rsa"] = case("jose", "rsaoaep", "jwe", "jwk", jose["rsa"])
    cases["jwe_cbc"] = case("jose", "cbc", "jwe", "jwk", jose["oct64"])
    cases["openssl_pbkdf2"] = case("openssl_enc", "pbkdf2", "openssl_enc", "text", word)
    cases["openssl_rounds"] = case("openssl_enc", "pbkdf2_100k", ROUNDS, "text", word)
    cases["openssl_md5"] = case("openssl_enc", "md5", "crypto_js", "text", word)
    cases["openssl_sha256"] = case("openssl_enc", "sha256", "openssl_enc_sha256", "text", word)
    cases["secretbox"] = case("nacl", "secretbox_prefixed", "secretbox", "hex", read("nacl")["key"], binary=True)
    exported = (FOLDER / "vault_key.json").read_bytes()
    sealed = [result["ciphertext"] for result in read("vault")["data"]["batch_results"]]
    cases["vault"] = Case("vault", "vault", exported, sealed, read("fernet")["plain"])
    return cases | _mongo()


def _mongo() -> dict[str, Case]:
    found = read("mongo")
    document = bytes.fromhex(found["keydoc"][0])
    at = document.index(b"keyMaterial\0") + len(b"keyMaterial\0") + 5
    wrapped, master = document[at : at + 160], bytes.fromhex(found["master"])
    key = cbc(master[32:64], wrapped[:16], wrapped[16:-32])
    at = document.index(b"_id\0") + 4 + 5
    secret = json.dumps({document[at : at + 16].hex(): base64_of(key)}).encode()
    return {
        f"mongo_{kind.lower()}": Case(
            "mongo",
            "mongo",
            secret,
            [bytes.fromhex(value) for _, value in found[f"AEAD_AES_256_CBC_HMAC_SHA_512-{kind}"]],
            found["plain"],
        )
        for kind in ("Deterministic", "Random")
    }


CASES = _pgcrypto() | _python() | _node() | _ruby() | _others()
