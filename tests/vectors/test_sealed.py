"""Named keys, documents and files: the package opens what it must, and refuses what it must."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.envelope import FieldKey, header
from pg_envelope_client import SealedReader, open_document, open_file
from pg_envelope_client.sealing import plain
from tests.vectors import check, check_sealed
from tests.vectors.check_envelopes import Malformed, open_envelope
from tests.vectors.local import FIELD, OTHER_FIELD, local_key
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


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
OFFSETS = st.none() | st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))


def unfolded(moment: Any) -> Any:
    """ISO 8601 has no fold. Python takes times for equal that differ in it."""
    return moment.replace(fold=0)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXTS
    | st.binary(max_size=8)
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.times(timezones=OFFSETS).map(unfolded)
    | st.datetimes(timezones=OFFSETS).map(unfolded),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.sampled_from(["$", "$date"]), inner, max_size=2)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_keeps_its_type_for_both_implementations(value: Any) -> None:
    content = plain.write(value)
    for found in (plain.read(content), check_sealed.value_of(json.loads(content))):
        # repr tells 1 from 1.0 and from True, and 1.0 from 1.00.
        assert (found, repr(found)) == (value, repr(value))


@given(st.sampled_from([1, 2, 3, 5]), st.booleans(), st.integers(1, 2**32 - 1), st.binary(max_size=300), TEXTS)
def test_any_envelope_opens_for_both_implementations(
    suite: int, padded: bool, key_id: int, content: bytes, row_key: str
) -> None:
    key = FieldKey(header(suite, padded, key_id), FIELD.bytes, bytes(range(32)))
    envelope = key.seal(content, row_key.encode())
    assert key.open(envelope, row_key.encode()) == content
    assert open_envelope(envelope, bytes(range(32)), FIELD, row_key) == content
    with pytest.raises(Malformed):
        open_envelope(envelope, bytes(range(32)), FIELD, row_key + "0")
