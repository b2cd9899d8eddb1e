"""JSON objects of a known form are read as the parser reads them, whatever comes between."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.foreign.json_forms import MOST_FORMS, MOST_LEARNED
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.presets import SPECIFICATIONS, reader_of

KEY = bytes(range(32))
SPEC = {**SPECIFICATIONS["node_json"], "expected": {"v": "2"}}


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def url_text_of(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def members(plain: str, iv: bytes, written: Callable[[bytes], str] = text_of) -> dict[str, Any]:
    sealed = AESGCM(KEY).encrypt(iv, plain.encode(), None)
    return {"ciphertext": written(sealed[:-16]), "iv": written(iv), "authTag": written(sealed[-16:])}


def fresh(value: str) -> bytes | None:
    """What a reader says that has seen no value before."""
    return said(reader_of(SPEC, LegacyKey("raw", (KEY,))).open, value)


def said(opened: Callable[[str], bytes], value: str) -> bytes | None:
    try:
        return opened(value)
    except errors.InvalidEnvelope:
        return None


MORE: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=5), st.integers(), st.none(), st.booleans(), st.lists(st.integers(), max_size=2)
)
NAMES = st.sampled_from(["keyId", "v", "at", "iv", "ciphertext", "é", 'a"b'])


@st.composite
def values(draw: st.DrawFn) -> str:
    """Objects as applications write them, and objects that nearly are such."""
    written = draw(st.sampled_from([text_of, text_of, url_text_of]))
    iv = draw(st.binary(min_size=12, max_size=12) | st.binary(min_size=16, max_size=16))
    found = members(draw(st.text(max_size=20)), iv, written)
    found |= draw(st.dictionaries(NAMES, MORE, max_size=2))
    names = draw(st.permutations(list(found))) if draw(st.booleans()) else list(found)
    text = json.dumps({name: found[name] for name in names}, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 3)):
        return text
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from(['"', "\\", "\n", " ", "\x01", '"iv":"x",', "é", "="])) + text[at:]


@settings(max_examples=400, deadline=None)
@given(st.lists(values(), min_size=2, max_size=8))
def test_every_value_reads_as_without_a_known_form(found: list[str]) -> None:
    reader = reader_of(SPEC, LegacyKey("raw", (KEY,)))
    assert [said(reader.open, value) for value in found] == list(map(fresh, found))
    assert [reader.fits(value) for value in found] == [
        reader_of(SPEC, LegacyKey("raw", (KEY,))).fits(value) for value in found
    ]


def forms(reader: Any) -> Any:
    return next(cell.cell_contents for cell in reader.opener.__closure__ if isinstance(cell.cell_contents, list))


def test_the_parser_reads_the_first_value_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of("node_json", LegacyKey("raw", (KEY,)))
    found = [json.dumps({**members(str(number), bytes(12)), "keyId": f"k{number % 2}"}) for number in range(9)]
    assert [reader.open(value) for value in found[:3]] == [b"0", b"1", b"2"]
    monkeypatch.setattr(json, "loads", None)
    assert [reader.open(value) for value in found[3:]] == [str(number).encode() for number in range(3, 9)]


def test_values_without_a_common_form_are_learned_in_vain_for_a_while() -> None:
    reader = reader_of("node_json", LegacyKey("raw", (KEY,)))
    for number in range(3 * MOST_LEARNED):
        assert reader.open(json.dumps({**members("x", bytes(12)), f"at{number}": ""})) == b"x"
    assert len(forms(reader)) == MOST_FORMS


def test_objects_with_numbers_that_differ_are_parsed() -> None:
    reader = reader_of("node_json", LegacyKey("raw", (KEY,)))
    for number in range(9):
        assert reader.open(json.dumps({**members("x", bytes(12)), "at": 17e8 + number})) == b"x"
    assert forms(reader) == []


def test_the_last_of_two_members_of_one_name_counts() -> None:
    reader = reader_of("node_json", LegacyKey("raw", (KEY,)))
    whole = json.dumps(members("first", bytes(12)))
    for _ in range(3):
        assert reader.open(whole) == b"first"
        twice = whole[:-1] + "," + json.dumps(members("last", b"1" * 12))[1:]
        assert reader.open(twice) == b"last"


def test_an_altered_value_of_a_known_form_does_not_open() -> None:
    reader = reader_of("node_json", LegacyKey("raw", (KEY,)))
    found = members("of a person", bytes(12))
    assert reader.opens(json.dumps(found))
    for name in ("ciphertext", "iv", "authTag"):
        flipped = text_of(bytes(byte ^ 1 for byte in base64.b64decode(found[name])))
        assert not reader.opens(json.dumps({**found, name: flipped}))
        assert not reader.opens(json.dumps({**found, name: flipped[:-4]}))
        assert not reader.opens(json.dumps({**found, name: ""}))
