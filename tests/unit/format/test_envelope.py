"""Sealing and opening: FORMAT.md section 1, over all suites."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import envelope, errors
from pg_envelope.envelope import FieldKey, header
from pg_envelope.suites import SUITES

FIELD = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
OTHER_FIELD = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
KEY = bytes(range(32))
ROW = b"42"
KINDS = [(suite, padded) for suite in SUITES for padded in (False, True)]
every_kind = pytest.mark.parametrize(("suite", "padded"), KINDS)
KEY_IDS = st.integers(min_value=1, max_value=0xFFFFFFFF)


def field_key(suite: int = 1, padded: bool = False, key_id: int = 7, field: UUID = FIELD, key: bytes = KEY) -> FieldKey:
    return FieldKey(header(suite, padded, key_id), field.bytes, key)


def read(content: bytes, row_key: bytes = ROW, field: UUID = FIELD, key: bytes = KEY) -> bytes:
    """As a reader that knows one field key opens whatever it finds: the header chooses the suite."""
    envelope.key_id(content)
    return FieldKey(content[: envelope.HEADER_BYTES], field.bytes, key).open(content, row_key)


def damaged(content: bytes) -> Iterator[bytes]:
    """Every bit flipped, every cut from either end, and bytes added."""
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            yield bytes(changed)
        yield content[:place]
        yield content[place + 1 :]
    yield from (content + b"\0", b"\0" + content, content + content)


@given(st.sampled_from(KINDS), KEY_IDS, st.binary(max_size=300), st.text(max_size=20))
def test_round_trip(kind: tuple[int, bool], key_id: int, content: bytes, row_key: str) -> None:
    key = field_key(*kind, key_id)
    sealed = key.seal(content, row_key.encode())
    assert envelope.key_id(sealed) == key_id
    assert key.open(sealed, row_key.encode()) == content


@every_kind
def test_overhead(suite: int, padded: bool) -> None:
    sealed = field_key(suite, padded).seal(b"", ROW)
    assert len(sealed) == {1: 34, 2: 46, 3: 34, 4: 22, 5: 34}[suite] + padded


@every_kind
def test_every_flipped_byte_and_every_cut_fails_alike(suite: int, padded: bool) -> None:
    content = field_key(suite, padded).seal(b"a@b.c", ROW)
    assert read(content) == b"a@b.c"
    for bad in damaged(content):
        with pytest.raises(errors.InvalidEnvelope) as caught:
            read(bad)
        assert (caught.value.message, caught.value.detail) == (errors.InvalidEnvelope.text, None)


@every_kind
def test_a_key_refuses_a_header_that_is_not_its_own(suite: int, padded: bool) -> None:
    """Also when the caller did not look: the header it was made for is authenticated, the one at hand compared."""
    key = field_key(suite, padded)
    content = key.seal(b"a@b.c", ROW)
    for place in range(envelope.HEADER_BYTES):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(errors.InvalidEnvelope):
            key.open(bytes(changed), ROW)


@given(st.sampled_from(KINDS), st.binary(max_size=120))
def test_garbage_after_a_good_header_fails(kind: tuple[int, bool], garbage: bytes) -> None:
    with pytest.raises(errors.InvalidEnvelope):
        read(header(*kind, 7) + garbage)


@given(st.binary(max_size=120).filter(lambda content: not content.startswith(b"\xe1")))
def test_garbage_fails(garbage: bytes) -> None:
    with pytest.raises(errors.InvalidEnvelope):
        read(garbage)


@every_kind
@pytest.mark.parametrize(
    "place",
    [{"row_key": b"43"}, {"row_key": b""}, {"row_key": b"42 "}, {"field": OTHER_FIELD}, {"key": bytes(32)}],
    ids=["row", "no row", "longer row key", "field", "key"],
)
def test_another_place_or_key_fails(suite: int, padded: bool, place: dict[str, object]) -> None:
    content = field_key(suite, padded).seal(b"a@b.c", ROW)
    with pytest.raises(errors.InvalidEnvelope):
        read(content, **place)  # type: ignore[arg-type]


@pytest.mark.parametrize(("suite", "padded"), [kind for kind in KINDS if kind[0] != 4])
def test_the_nonce_is_fresh_each_time(suite: int, padded: bool) -> None:
    key = field_key(suite, padded)
    sealed = {key.seal(b"a@b.c", ROW) for _ in range(100)}
    assert len({content[envelope.HEADER_BYTES : key.nonce_end] for content in sealed}) == 100


@given(st.booleans(), st.binary(max_size=300), st.binary(max_size=300), st.text(max_size=20))
def test_suite_4_is_equal_for_equal_values_alone(padded: bool, one: bytes, other: bytes, scope: str) -> None:
    key, again = (field_key(4, padded) for _ in range(2))
    row_key = scope.encode()
    sealed = key.seal(one, row_key)
    assert again.seal(one, row_key) == sealed
    assert (key.seal(other, row_key) == sealed) == (one == other)
    others = [
        field_key(4, padded, key_id=8).seal(one, row_key),
        field_key(4, padded, field=OTHER_FIELD).seal(one, row_key),
        field_key(4, padded, key=bytes(32)).seal(one, row_key),
        field_key(4, not padded).seal(one, row_key),
        key.seal(one, row_key + b"2"),
    ]
    # Not even the tags are alike, which a person could compare across columns, keys and scopes.
    assert len({found[-16:] for found in [sealed, *others]}) == 6


@given(st.binary(min_size=1, max_size=40), st.data())
def test_parts_of_two_envelopes_of_suite_4_make_no_third(content: bytes, data: st.DataObject) -> None:
    key = field_key(4)
    one, other = key.seal(content, b""), key.seal(data.draw(st.binary(min_size=len(content), max_size=40)), b"")
    cut = data.draw(st.integers(envelope.HEADER_BYTES, len(one)))
    spliced = one[:cut] + other[cut:]
    if spliced not in (one, other):
        with pytest.raises(errors.InvalidEnvelope):
            key.open(spliced, b"")


def test_spliced_envelopes_fail() -> None:
    key = field_key()
    one, other = key.seal(b"a@b.c", ROW), key.seal(b"x@y.z", ROW)
    for cut in range(envelope.HEADER_BYTES + 1, len(one)):
        spliced = one[:cut] + other[cut:]
        # By chance both begin or end with the same byte; then there is nothing to find.
        if spliced in (one, other):
            continue
        with pytest.raises(errors.InvalidEnvelope):
            key.open(spliced, ROW)


def test_a_value_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_VALUE_BYTES", 10)
    key = field_key()
    assert key.open(key.seal(bytes(10), ROW), ROW) == bytes(10)
    with pytest.raises(errors.ValueTooLong, match="too long"):
        key.seal(bytes(11), ROW)


def test_the_limit_leaves_room_for_a_padded_envelope_in_a_bytea() -> None:
    """PostgreSQL's values have at most 1 GB - 1, and the package's text says 512 MB."""
    assert envelope.MAX_VALUE_BYTES == 512 << 20
    assert envelope.MAX_VALUE_BYTES * 1.12 + 46 < (1 << 30) - 1


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_field_key_has_32_bytes(length: int) -> None:
    with pytest.raises(errors.Internal):
        field_key(key=bytes(length))


@pytest.mark.parametrize("content", [b"", b"\xe1", b"\xe1\x01\0\0\0", b"\xe0\x01\0\0\0\x07", b"text that is none"])
def test_what_has_no_header_of_this_version_has_no_key_id(content: bytes) -> None:
    with pytest.raises(errors.InvalidEnvelope):
        envelope.key_id(content)


def test_an_error_shows_nothing_of_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    content = field_key().seal(os.urandom(8), ROW)
    with pytest.raises(errors.InvalidEnvelope) as caught:
        read(content, row_key=b"other")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_messages_are_reserved_before_they_are_sealed() -> None:
    asked: list[int] = []
    left = iter((2, 3))

    def reserve() -> int:
        asked.append(1)
        return next(left)

    key = FieldKey(header(1, False, 7), FIELD.bytes, KEY, reserve=reserve)
    counts = []
    for _ in range(5):
        key.seal(b"x", ROW)
        counts.append(len(asked))
    assert counts == [1, 1, 2, 2, 2]
    with pytest.raises(StopIteration):
        key.seal(b"x", ROW)


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_only_short_nonces_need_a_reservation(suite: int) -> None:
    def refuse() -> int:
        raise errors.ValueTooLong

    key = FieldKey(header(suite, False, 7), FIELD.bytes, KEY, reserve=refuse)
    if SUITES[suite].nonce_bytes == 12:
        with pytest.raises(errors.ValueTooLong):
            key.seal(b"x", ROW)
    else:
        assert key.open(key.seal(b"x", ROW), ROW) == b"x"
