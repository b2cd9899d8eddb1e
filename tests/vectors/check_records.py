"""The second implementation, for what is signed, backed up and recorded: FORMAT.md sections 5 to 7."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from Crypto.Cipher import AES
from Crypto.Protocol import DH
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from tests.vectors.kdf import expand, extract, hkdf

Vector = dict[str, Any]

KEM = b"KEM" + bytes([0, 0x20])
# DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
HPKE = b"HPKE" + bytes([0, 0x20, 0, 1, 0, 2])


def labeled_extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + key)


def labeled_expand(suite: bytes, secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(secret, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def unseal(private: bytes, info: bytes, sealed: bytes) -> bytes:
    """HPKE in base mode, one message: RFC 9180. Raises ValueError."""
    ours = DH.import_x25519_private_key(private)
    theirs = DH.import_x25519_public_key(sealed[:32])
    shared: bytes = DH.key_agreement(static_priv=ours, static_pub=theirs, kdf=lambda raw: raw)
    known = sealed[:32] + ours.public_key().export_key(format="raw")
    secret = labeled_expand(KEM, labeled_extract(KEM, b"", b"eae_prk", shared), b"shared_secret", known, 32)
    names = labeled_extract(HPKE, b"", b"psk_id_hash", b"") + labeled_extract(HPKE, b"", b"info_hash", info)
    schedule = labeled_extract(HPKE, secret, b"secret", b"")
    key = labeled_expand(HPKE, schedule, b"key", b"\0" + names, 32)
    nonce = labeled_expand(HPKE, schedule, b"base_nonce", b"\0" + names, 12)
    return AES.new(key, AES.MODE_GCM, nonce=nonce).decrypt_and_verify(sealed[32:-16], sealed[-16:])


def opened(vector: Vector, dek_id: int, text: str) -> str:
    """A sealed DEK in hex; "" when it does not open in the vector's place."""
    assert text.startswith("keysbackup1:")
    place = f"{vector['purpose']} {vector['environment']} {vector['database_uuid']} {dek_id}"
    sealed = base64.b64decode(text.removeprefix("keysbackup1:"), validate=True)
    try:
        return unseal(bytes.fromhex(vector["private_key"]), f"pg_envelope/1 {place}".encode(), sealed).hex()
    except ValueError:
        return ""


def check_sealed(vector: Vector) -> None:
    """One sealed DEK: section 6.1. It opens to its DEK, or, when it has none, not at all."""
    assert opened(vector, vector["dek_id"], vector["sealed"]) == (vector["dek"] or "")


def check_backup(vector: Vector) -> None:
    """The lines of a backup of keys: section 6.3."""
    *body, last = vector["text"].encode().splitlines(keepends=True)
    head, *deks = map(json.loads, body)
    assert json.loads(last) == {"deks": len(deks), "sha256": hashlib.sha256(b"".join(body)).hexdigest()}
    public = ECC.construct(curve="curve25519", seed=bytes.fromhex(vector["private_key"])).public_key()
    raw = base64.b64encode(public.export_key(format="raw")).decode()
    assert head["public_key"] == f"pg_envelope-break-glass-1:{raw}"
    assert (head["pg_envelope_keys"], head["made"]) == (1, vector["made"])
    place = {name: head[name] for name in ("environment", "database_uuid")}
    found = {line["dek_id"]: opened({**vector, **place}, line["dek_id"], line["sealed"]) for line in deks}
    assert found == {int(dek_id): dek for dek_id, dek in vector["deks"].items()}
    for line in deks:
        info = b"pg_envelope/1 fingerprint" + line["dek_id"].to_bytes(8, "big")
        assert hkdf(bytes.fromhex(found[line["dek_id"]]), b"", info, 16).hex() == line["fingerprint"]


def verify(public: str, signature: str, text: bytes) -> None:
    """Ed25519, both in base64; AssertionError when the signature is not the key's."""
    key = eddsa.import_public_key(base64.b64decode(public, validate=True))
    try:
        eddsa.new(key, "rfc8032").verify(text, base64.b64decode(signature, validate=True))
    except ValueError:
        raise AssertionError("signature") from None


def public_of(seed: bytes) -> str:
    key = eddsa.import_private_key(seed).public_key()
    return base64.b64encode(key.export_key(format="raw")).decode()


def check_signature(vector: Vector) -> None:
    """A signed statement: section 5."""
    members = {"pg_envelope": 1, "statement": vector["statement"], **vector["broker"]}
    assert json.dumps(members, sort_keys=True, separators=(",", ":")) == vector["text"]
    assert public_of(hkdf(bytes.fromhex(vector["dek"]), b"", b"pg_envelope/1 sign", 32)) == vector["public_key"]
    verify(vector["public_key"], vector["signature"], vector["text"].encode())


def check_ledger(vector: Vector) -> None:
    """A ledger of one subject: section 7."""
    assert public_of(bytes.fromhex(vector["seed"])) == vector["public_key"]
    lines = vector["text"].encode().splitlines()
    for entry in chain(lines, vector["public_key"]):
        assert entry["subject"] is None or entry["subject"] == hashed(entry["salt"], vector["subject"])
    assert hashlib.sha256(lines[-1]).hexdigest() == vector["head"]


def chain(lines: list[bytes], public_key: str) -> list[dict[str, Any]]:
    """The entries; AssertionError unless each has the hash of the one before, and a signature of the key."""
    previous, entries = "0" * 64, []
    for number, line in enumerate(lines, 1):
        entry = json.loads(line)
        assert (entry["v"], entry["n"], entry["previous"]) == (1, number, previous)
        signed, _, _ = line.rpartition(b',"signature":"')
        verify(public_key, entry["signature"], signed + b"}")
        previous = hashlib.sha256(line).hexdigest()
        entries.append(entry)
    return entries


def hashed(salt: str, subject: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + subject.encode()).hexdigest()
