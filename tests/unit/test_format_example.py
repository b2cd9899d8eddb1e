"""FORMAT.md's worked examples are what the package computes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from unittest import mock
from uuid import UUID

import pytest

from pg_envelope.envelope import FieldKey, header

FORMAT = Path(__file__).parents[2] / "FORMAT.md"
MARKER = "<!-- checked by tests/unit/test_format_example.py -->"


@pytest.fixture(scope="module", params=[1, 2], ids=["suite 1", "suite 4"])
def example(request: pytest.FixtureRequest) -> dict[str, str]:
    """The names and values of the code block after a marker; values are words or quoted."""
    block = FORMAT.read_text().split(MARKER)[request.param].split("```")[1]
    pairs = re.findall(r'(?:^| {3,})([a-zA-Z ]+?) +("[^"]*"|[0-9a-f][0-9a-f-]*)(?= {3,}|$)', block, re.MULTILINE)
    return {name: value.strip('"') for name, value in pairs}


def test_the_example_names_everything(example: dict[str, str]) -> None:
    nonce = [] if example["suite"] == "4" else ["nonce"]
    assert example.keys() == {
        *("field key", "field uuid", "row key", "key id", "suite", *nonce, "plaintext", "AAD", "envelope")
    }


def test_the_example_holds(example: dict[str, str]) -> None:
    field = UUID(example["field uuid"])
    key = FieldKey(
        header(int(example["suite"]), False, int(example["key id"])), field.bytes, bytes.fromhex(example["field key"])
    )
    row_key = example["row key"].encode()
    assert (key.aad + row_key).hex() == example["AAD"]
    with mock.patch.object(os, "urandom", return_value=bytes.fromhex(example.get("nonce", ""))):
        assert key.seal(example["plaintext"].encode(), row_key).hex() == example["envelope"]
    assert key.open(bytes.fromhex(example["envelope"]), row_key) == example["plaintext"].encode()
