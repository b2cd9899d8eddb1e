"""The package, the second implementation and the vectors agree; and the published vectors hold for both."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pg_envelope import derivation, envelope, errors, keys_backup, padding, siv
from pg_envelope.broker.kms.providers import base, keyring_file
from pg_envelope.envelope import FieldKey
from pg_envelope.suites import SUITES
from tests.vectors import check, check_envelopes, generate

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "format1.json").read_text())
PUBLISHED = json.loads((HERE / "published.json").read_text())
AEAD = [
    pytest.param(group["suite"], test, id=f"suite {group['suite']}: {test['name']}")
    for group in PUBLISHED["aead"]
    for test in group["tests"]
]


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def opened(vector: dict[str, Any], content: bytes) -> bytes:
    """As a reader opens what it finds: the header chooses the key's suite."""
    envelope.key_id(content)
    field_key = FieldKey(
        content[: envelope.HEADER_BYTES], UUID(vector["field_uuid"]).bytes, bytes.fromhex(vector["field_key"])
    )
    return field_key.open(content, vector["row_key"].encode())


def test_generating_again_gives_identical_bytes() -> None:
    assert generate.generate() == generate.FILE.read_text()


SECOND = [path.name for path in sorted(HERE.glob("check*.py"))] + ["gcm_siv.py", "kdf.py"]


@pytest.mark.parametrize("name", SECOND)
def test_the_second_implementation_shares_nothing_with_the_package(name: str) -> None:
    tree = ast.parse((HERE / name).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported -= {"tests.vectors", *(f"tests.vectors.{Path(other).stem}" for other in SECOND)}
    assert not {module for module in imported if module.split(".")[0] in ("pg_envelope", "cryptography", "tests")}


@pytest.mark.parametrize("kind", check.CHECKS)
def test_the_second_implementation_agrees(kind: str) -> None:
    assert VECTORS[kind]
    for vector in VECTORS[kind]:
        check.CHECKS[kind](vector)


CHANGES = {
    **{
        name: b"\x01".hex() * 32
        for name in ("dek", "salt", "field_key", "aad", "content", "envelope", "envelope_sha256")
    },
    "nonce": "01" * 12,
    "field_uuid": str(generate.OTHER_FIELD),
    "row_key": "43",
    "row_key_columns": ["43"],
    "key_id": 8,
    "suite": 3,
    "padded": True,
}


def test_every_part_of_a_vector_can_be_changed() -> None:
    assert CHANGES.keys() == VECTORS["envelopes"][0].keys() - {"name"}


@pytest.mark.parametrize("part", CHANGES)
def test_the_second_implementation_notices_a_change(part: str) -> None:
    vector = next(vector for vector in VECTORS["envelopes"] if vector["name"] == "suite 1: short")
    check.check_envelope(vector)
    with pytest.raises(AssertionError):
        check.check_envelope(vector | {part: CHANGES[part]})


def test_the_second_implementation_notices_an_envelope_that_opens() -> None:
    vector = next(vector for vector in VECTORS["malformed"] if vector["name"] == "another row")
    check.check_malformed(vector)
    with pytest.raises(AssertionError):
        check.check_malformed(vector | {"row_key": "42"})


def altered(text: str, place: int) -> str:
    return text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]


@pytest.mark.parametrize("kind", ["backups", "ledgers", "signatures"])
@pytest.mark.parametrize("part", range(0, 100, 7))
def test_the_second_implementation_notices_a_changed_byte(kind: str, part: int) -> None:
    for vector in VECTORS[kind]:
        text = altered(vector["text"], len(vector["text"]) * part // 100)
        with pytest.raises((AssertionError, ValueError, LookupError)):
            check.CHECKS[kind](vector | {"text": text})


def test_the_second_implementation_notices_a_sealed_dek_that_opens() -> None:
    for vector in VECTORS["sealed_deks"]:
        with pytest.raises(AssertionError):
            check.CHECKS["sealed_deks"](vector | {"dek": None if vector["dek"] else generate.DEK.hex()})


@pytest.mark.parametrize("vector", named(VECTORS["sealed_deks"]))
def test_a_sealed_dek(vector: dict[str, Any]) -> None:
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["private_key"]))
    place = keys_backup.SealPlace(vector["purpose"], vector["environment"], UUID(vector["database_uuid"]))
    if vector["dek"] is not None:
        assert keys_backup.unseal(private, place, vector["dek_id"], vector["sealed"]).hex() == vector["dek"]
        return
    with pytest.raises(errors.UnwrapFailed):
        keys_backup.unseal(private, place, vector["dek_id"], vector["sealed"])


@pytest.mark.parametrize("vector", named(VECTORS["envelopes"]))
def test_an_envelope_opens(vector: dict[str, Any]) -> None:
    derived = derivation.field_key(
        bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"]), UUID(vector["field_uuid"]), vector["key_id"]
    )
    assert derived.hex() == vector["field_key"]
    assert opened(vector, check.make_envelope(vector)) == check.content_of(vector)


@pytest.mark.parametrize("vector", named(VECTORS["malformed"]))
def test_a_malformed_envelope_fails_with_the_one_error(vector: dict[str, Any]) -> None:
    with pytest.raises(errors.EnvelopeError) as caught:
        opened(vector, bytes.fromhex(vector["envelope"]))
    assert type(caught.value) is errors.InvalidEnvelope
    assert caught.value.code == vector["fails"]
    assert (str(caught.value), caught.value.detail) == (errors.InvalidEnvelope.text, None)


@pytest.mark.parametrize("vector", named(VECTORS["canaries"]))
def test_the_salt_of_a_canary(vector: dict[str, Any]) -> None:
    assert derivation.is_canary(bytes.fromhex(vector["dek"]), bytes.fromhex(vector["salt"])) is vector["is_canary"]


@pytest.mark.parametrize("vector", VECTORS["fingerprints"], ids=lambda vector: str(vector["dek_id"]))
def test_a_fingerprint(vector: dict[str, Any]) -> None:
    assert derivation.fingerprint(bytes.fromhex(vector["dek"]), vector["dek_id"]).hex() == vector["fingerprint"]


@pytest.mark.parametrize("vector", named(VECTORS["keyring_wraps"]))
def test_a_keyring_s_wrap(vector: dict[str, Any]) -> None:
    versions = {number: base64.b64encode(bytes.fromhex(kek)).decode() for number, kek in vector["keks"].items()}
    item = base.Item(wrapped=vector["wrapped"], context=vector["context"])
    if vector["dek"] is not None:
        assert keyring_file._opened(versions, item).hex() == vector["dek"]
        return
    with pytest.raises(errors.EnvelopeError) as caught:
        keyring_file._opened(versions, item)
    assert caught.value.code == vector["fails"]


def test_padme() -> None:
    for vector in VECTORS["padme"]:
        assert padding.padme(vector["bytes"]) == vector["padded_bytes"]


@pytest.mark.parametrize(("suite", "test"), AEAD)
def test_published_vectors_hold_for_our_suites(suite: int, test: dict[str, Any]) -> None:
    aead = SUITES[suite].aead(bytes.fromhex(test["key"]))
    nonce, sealed, aad = (bytes.fromhex(test[name]) for name in ("nonce", "sealed", "aad"))
    if not test["valid"]:
        with pytest.raises(InvalidTag):
            aead.decrypt(nonce, sealed, aad)
        return
    plaintext = bytes.fromhex(test["plaintext"])
    assert aead.encrypt(nonce, plaintext, aad) == sealed
    assert aead.decrypt(nonce, sealed, aad) == plaintext


@pytest.mark.parametrize(("suite", "test"), AEAD)
def test_published_vectors_hold_for_the_second_implementation(suite: int, test: dict[str, Any]) -> None:
    key, nonce, sealed, aad = (bytes.fromhex(test[name]) for name in ("key", "nonce", "sealed", "aad"))
    if not test["valid"]:
        with pytest.raises(check.Malformed):
            check.unseal(suite, key, nonce, sealed, aad)
        return
    plaintext = bytes.fromhex(test["plaintext"])
    assert check.seal(suite, key, nonce, plaintext, aad) == sealed
    assert check.unseal(suite, key, nonce, sealed, aad) == plaintext


@pytest.mark.parametrize("test", named(PUBLISHED["siv"]["tests"]))
def test_published_siv_holds_for_our_suite(test: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The published keys have 64 bytes. Suite 4 derives such a key, so the derivation is left out here."""
    key, sealed, aad, plaintext = (bytes.fromhex(test[name]) for name in ("key", "sealed", "aad", "plaintext"))
    monkeypatch.setattr(siv, "_siv_key", lambda _: key)
    aead = siv.AES256SIV(bytes(32))
    if not test["valid"]:
        with pytest.raises(InvalidTag):
            aead.decrypt(b"", sealed, aad)
        return
    assert aead.encrypt(b"", plaintext, aad) == sealed
    assert aead.decrypt(b"", sealed, aad) == plaintext


@pytest.mark.parametrize("test", named(PUBLISHED["siv"]["tests"]))
def test_published_siv_holds_for_the_second_implementation(test: dict[str, Any]) -> None:
    key, sealed, aad, plaintext = (bytes.fromhex(test[name]) for name in ("key", "sealed", "aad", "plaintext"))
    cipher = check_envelopes.siv_of(key)
    cipher.update(aad)
    if not test["valid"]:
        with pytest.raises(ValueError, match="MAC"):
            cipher.decrypt_and_verify(sealed[:-16], sealed[-16:])
        return
    assert b"".join(cipher.encrypt_and_digest(plaintext)) == sealed


@pytest.mark.parametrize("test", named(PUBLISHED["hkdf"]["tests"]))
def test_published_hkdf(test: dict[str, Any]) -> None:
    key, salt, info = (bytes.fromhex(test[name]) for name in ("key", "salt", "info"))
    assert check.hkdf(key, salt, info, test["length"]).hex() == test["okm"]
    assert HKDF(SHA256(), test["length"], salt, info).derive(key).hex() == test["okm"]


def test_published_accumulated_xaes() -> None:
    """C2SP: many messages of every length, from one SHAKE-128 stream, hashed into another."""
    (group,) = (group for group in PUBLISHED["aead"] if group["suite"] == 2)
    ((iterations, digest),) = group["accumulated"]["digests"].items()
    stream = memoryview(hashlib.shake_128().digest(int(iterations) * (32 + 24 + 2 + 2 * 255)))
    hashed, place = hashlib.shake_128(), 0

    def take(count: int) -> bytes:
        nonlocal place
        place += count
        return bytes(stream[place - count : place])

    for _ in range(int(iterations)):
        key, nonce = take(32), take(24)
        plaintext, aad = take(take(1)[0]), take(take(1)[0])
        hashed.update(SUITES[2].aead(key).encrypt(nonce, plaintext, aad))
    assert hashed.hexdigest(32) == digest


def test_the_package_draws_its_nonces() -> None:
    """The vectors are made with given nonces; so it must be the system's generator that the package asks."""
    field_key = FieldKey(envelope.header(1, False, 7), generate.FIELD.bytes, bytes(32))
    with mock.patch.object(os, "urandom", wraps=os.urandom) as drawn:
        field_key.seal(b"", b"")
    drawn.assert_called_once_with(12)
