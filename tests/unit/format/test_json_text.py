"""JSON by the C part of `json` alone: it must write and read what the public module does."""

from __future__ import annotations

import json
import sys
from importlib import reload
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import json_text

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
# Pieces of JSON, so that many of the texts are nearly right.
PIECES = [*'{}[],:" \t\r\n\\0-1.eE', "null", "true", '"a"', "\\u00e9", "NaN", "é"]
NO_JSON = [
    *("NaN", "[Infinity]", '{"a": -Infinity}', "", " ", "{} {}", "[1,]", "'a'"),
    # Blanks that are none in JSON, and a control character inside a string.
    *("\ufeff{}", "\u00a0{}", "{}\x0b", '["a\tb"]'),
]
NEARLY = st.lists(st.sampled_from(PIECES)).map("".join)


def of_library(text: str) -> Any:
    def refuse(_: str) -> Any:
        raise ValueError

    try:
        return "value", json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return "refused", None


def of_ours(text: str) -> Any:
    try:
        return "value", json_text.loads(text)
    except (ValueError, RecursionError):
        return "refused", None


@given(VALUES)
def test_it_writes_what_the_library_writes(value: Any) -> None:
    text = json_text.dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert json_text.loads(text) == json.loads(text)


@given(st.text() | NEARLY)
def test_it_reads_and_refuses_what_the_library_does(text: str) -> None:
    assert of_ours(text) == of_library(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [float("inf")]])
def test_it_writes_no_number_that_json_does_not_have(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text.dumps(value)


@pytest.mark.parametrize("text", NO_JSON)
def test_it_reads_no_more_than_json(text: str) -> None:
    assert of_ours(text) == ("refused", None)


def test_what_it_cannot_write_leaves_no_trace() -> None:
    """The C part remembers in a table what it is writing. An error would leave that table as it is."""
    inner: dict[str, Any] = {"a": b"bytes"}
    for _ in range(3):
        with pytest.raises(TypeError, match="bytes is not of JSON"):
            json_text.dumps({"b": inner})
    inner["a"] = 1
    assert json_text.dumps({"b": inner}) == '{"b":{"a":1}}'


def test_a_deep_text_is_an_error_and_no_crash() -> None:
    assert of_ours("[" * 1_000_000) == ("refused", None)


def test_another_python_has_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_json", None)
    try:
        assert reload(json_text).loads.__module__ != json_text.__name__
        assert json_text.dumps({"a": [1, "é"]}) == '{"a":[1,"\\u00e9"]}'
        assert of_ours("[NaN]") == ("refused", None)
        assert of_ours(' {"a": 1} ') == ("value", {"a": 1})
    finally:
        monkeypatch.undo()
        reload(json_text)
