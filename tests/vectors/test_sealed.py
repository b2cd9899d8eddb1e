"""Named keys, documents and files: the package opens what it must, and refuses what it must."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any

import pytest

from pg_envelope import errors
from pg_envelope_client import SealedReader, open_document, open_file
from pg_envelope_client.sealing import plain
from tests.vectors import check, check_sealed
from tests.vectors.local import OTHER_FIELD, local_key
from tests.vectors.test_vectors import VECTORS, named


@pytest.mark.parametrize("kind", ["named_keys", "members", "files"])
@pytest.mark.parametrize("part", ["field_key", "field_uuid", "key_id", "context", "nonce"])
def test_the_second_implementation_notices_another_part(kind: str, part: str) -> None:
    changed = {"field_key": "01" * 32, "nonce": "01" * 12, "key_id": 8, "context": "other"}
    for vector in VECTORS[kind]:
        with pytest.raises(AssertionError):
            check.CHECKS[kind](vector | {part: {**changed, "field_uuid": str(OTHER_FIELD)}[part]})


@pytest.mark.parametrize("vector", named(VECTORS["members"]))
def test_a_member_opens(vector: dict[str, Any]) -> None:
    key = local_key(content=bytes.fromhex(vector["field_key"]))
    content = key.open_bytes(
        base64.b64decode(vector["sealed"]["$envelope"]),
        f"8:document8:person/7{len(vector['pointer'])}:{vector['pointer']}",
    )
    assert content == vector["content"].encode()
    assert plain.write(plain.read(content)) == content


@pytest.mark.parametrize("vector", named(VECTORS["files"]))
def test_a_file_opens(vector: dict[str, Any]) -> None:
    target = io.BytesIO()
    sealed = io.BytesIO(check_sealed.sealed_file(vector))
    about = open_file(local_key(content=bytes.fromhex(vector["field_key"])), sealed, target, vector["context"])
    assert about.name == vector["about"].get("name")
    assert hashlib.shake_256(vector["content_seed"].encode()).digest(vector["content_bytes"]) == target.getvalue()


@pytest.mark.parametrize("vector", named(VECTORS["named_keys"]))
def test_a_named_key_s_value_opens(vector: dict[str, Any]) -> None:
    key = local_key(content=bytes.fromhex(vector["field_key"]))
    envelope = bytes.fromhex(vector["envelope"])
    assert key.open_bytes(envelope, vector["context"]) == bytes.fromhex(vector["content"])
    with pytest.raises(errors.InvalidEnvelope):
        key.open_bytes(envelope, vector["context"] + "0")


def member(vector: dict[str, Any]) -> Any:
    """What the package reads of a document that holds a sealed value at /ssn."""
    key, bind = local_key(content=bytes.fromhex(vector["field_key"])), "path" if vector["pointer"] else "document"
    found = open_document(key, {"ssn": vector["sealed"]}, vector["context"], paths=["ssn"], bind=bind)  # type: ignore[arg-type]
    return found["ssn"]


@pytest.mark.parametrize("vector", named(VECTORS["layouts"]))
def test_a_layout_opens(vector: dict[str, Any]) -> None:
    assert member(vector) == json.loads(vector["content"])


@pytest.mark.parametrize("vector", named(VECTORS["malformed_members"]))
def test_a_malformed_member_fails_with_the_one_error(vector: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidEnvelope):
        member(vector)


@pytest.mark.parametrize("vector", named(VECTORS["malformed_files"]))
def test_a_malformed_file_fails_with_the_one_error(vector: dict[str, Any]) -> None:
    key, source = local_key(content=bytes.fromhex(vector["field_key"])), check_sealed.malformed_file(vector)
    with pytest.raises(errors.InvalidEnvelope):
        open_file(key, io.BytesIO(source), io.BytesIO(), vector["context"])
    with pytest.raises(errors.InvalidEnvelope):
        SealedReader(key, io.BytesIO(source), vector["context"]).read()
