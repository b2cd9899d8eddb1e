"""Frames and errors on the broker's socket: FORMAT.md section 4."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors, wire

LEAVES = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
NOT_OBJECTS: list[bytes] = [
    *(b"", b"{", b"[]", b"null", b"1", b'"text"', b"\xff", b'{"a": \xff}', b'{"a": 1} {}', b"[" * 100_000),
    *('{"v": 1}'.encode(encoding) for encoding in ("utf-16", "utf-32-le", "utf-8-sig")),
]


def split(framed: bytes) -> tuple[int, bytes]:
    return wire.body_length(framed[: wire.LENGTH_BYTES]), framed[wire.LENGTH_BYTES :]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_a_message_comes_back(message: dict[str, Any]) -> None:
    length, body = split(wire.frame(message))
    assert length == len(body)
    assert wire.parse(body) == message


def test_the_length_is_four_bytes_big_endian() -> None:
    assert wire.frame({"v": 1})[: wire.LENGTH_BYTES] == b"\0\0\0\x07"


def test_the_largest_message_passes_and_one_byte_more_does_not() -> None:
    filling = "x" * (wire.MAX_BODY - len('{"x":""}'))
    length, body = split(wire.frame({"x": filling}))
    assert length == len(body) == wire.MAX_BODY
    with pytest.raises(errors.BadInput):
        wire.frame({"x": filling + "x"})


@pytest.mark.parametrize("length", [wire.MAX_BODY + 1, 0xFFFFFFFF])
def test_an_oversized_length_is_refused_before_anything_is_read(length: int) -> None:
    with pytest.raises(errors.BadInput):
        wire.body_length(length.to_bytes(4, "big"))


@pytest.mark.parametrize("body", NOT_OBJECTS, ids=lambda body: repr(body[:12]))
def test_what_is_no_json_object_in_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(errors.BadInput):
        wire.parse(body)


@given(st.binary(max_size=200))
def test_garbage_is_refused_without_being_repeated(body: bytes) -> None:
    with pytest.raises(errors.BadInput) as caught:
        wire.parse(b"\xff" + body)
    assert (str(caught.value), caught.value.detail) == ("the message is not a JSON object", None)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", errors.BY_CODE.values(), ids=lambda kind: kind.code)
def test_every_error_comes_back_as_itself(kind: type[errors.EnvelopeError]) -> None:
    sent = kind("a text", detail="a detail", hint="a hint")
    _, body = split(wire.frame(wire.failure(sent)))
    message = wire.parse(body)
    assert (message["v"], message["ok"]) == (wire.PROTOCOL, False)
    received = wire.error_from(message["error"])
    assert type(received) is kind
    assert (received.message, received.detail, received.hint) == ("a text", "a detail", "a hint")


@pytest.mark.parametrize("kind", errors.BY_CODE.values(), ids=lambda kind: kind.code)
def test_an_error_without_texts_has_its_own(kind: type[errors.EnvelopeError]) -> None:
    received = wire.error_from({"code": kind.code})
    assert (received.message, received.detail, received.hint) == (kind.text, None, kind.default_hint)


def test_a_refinement_of_an_error_travels_as_what_it_refines() -> None:
    assert type(wire.error_from(wire.error_body(errors.AlreadyProtected("taken")))) is errors.BadInput


@pytest.mark.parametrize("body", [{}, {"code": None}, {"code": "a newer broker's"}, {"code": ["kms_sealed"]}])
def test_an_unknown_error_is_internal(body: wire.Message) -> None:
    assert type(wire.error_from(body)) is errors.Internal


@pytest.mark.parametrize("body", [[], "kms_sealed", 1, None, {"message": {"a": 1}, "detail": [1], "hint": 2}])
def test_an_error_of_another_shape_is_internal_and_has_only_texts(body: Any) -> None:
    received = wire.error_from(body)
    assert type(received) is errors.Internal
    assert all(isinstance(text, str | None) for text in (received.message, received.detail, received.hint))


def test_a_body_is_ascii_so_that_every_reader_agrees_on_it() -> None:
    body = wire.frame({"label": "straße 🦉"})[wire.LENGTH_BYTES :]
    assert body.isascii()
    assert json.loads(body) == {"label": "straße 🦉"}
