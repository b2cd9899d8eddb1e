"""The table of suites is FORMAT.md's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pg_envelope import errors, suites
from pg_envelope.suites import SUITES

FORMAT = Path(__file__).parents[3] / "FORMAT.md"
ROW = re.compile(r"^\| (\d+) \| ([\w-]+)([^|]*)\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", re.MULTILINE)


def test_sizes_and_names_are_those_of_the_format() -> None:
    written = {
        int(number): (name, int(key), int(nonce), int(tag), int(overhead))
        for number, name, note, key, nonce, tag, overhead in ROW.findall(FORMAT.read_text())
        if "reserved" not in note
    }
    assert written == {
        suite.number: (
            suite.name,
            suites.KEY_BYTES,
            suite.nonce_bytes,
            suites.TAG_BYTES,
            6 + suite.nonce_bytes + suites.TAG_BYTES,
        )
        for suite in SUITES.values()
    }


@pytest.mark.parametrize("suite_byte", range(256))
def test_any_other_suite_is_refused(suite_byte: int) -> None:
    if suite_byte % 128 in SUITES:
        assert suites.suite_of(suite_byte).number == suite_byte % 128
    else:
        with pytest.raises(errors.InvalidEnvelope):
            suites.suite_of(suite_byte)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_what_does_not_authenticate_raises_a_known_refusal(suite: suites.Suite) -> None:
    aead = suite.aead(bytes(suites.KEY_BYTES))
    for length in (0, 1, 15, 16, 17):
        with pytest.raises(suites.REFUSALS):
            aead.decrypt(bytes(suite.nonce_bytes), bytes(length), b"")


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
@pytest.mark.parametrize("key_bytes", [0, 31, 33])
def test_a_key_of_another_length_is_refused(suite: suites.Suite, key_bytes: int) -> None:
    with pytest.raises(ValueError, match=r"[Kk]ey|bytes|size|length"):
        suite.aead(bytes(key_bytes))


def test_the_default_is_a_suite() -> None:
    assert suites.DEFAULT in SUITES
