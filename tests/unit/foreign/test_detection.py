"""What values look like: a layout with a mark is told by its shape, and everything else only by a key that opens it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.foreign.detection import MARKED, OPAQUE, kind, kinds, trial
from pg_envelope.foreign.keys import parse
from tests.unit.foreign.fix_cases import CASES

# Layouts that share their shape with another one have its name.
SHAPES = {
    **dict.fromkeys(["django_fernet_fields", "sqlalchemy_utils_fernet"], "fernet"),
    **dict.fromkeys(["openssl_enc", "openssl_enc_sha256"], "crypto_js"),
    "pgp_sym_unchecked": "pgp_sym",
    "rails_sha1": "rails",
}
EXPECTED = {name: SHAPES.get(str(case.layout), str(case.layout)) for name, case in CASES.items()}
EXPECTED["openssl_rounds"] = "crypto_js"
TOLD = [name for name, expected in EXPECTED.items() if expected in MARKED]
UNTOLD = [name for name in CASES if name not in TOLD]
PLAIN = [
    *(
        "8f14e45f-ceea-467f-a0e6-b1a5c3c1f1b9",
        "4111111111111111",
        "4111 1111 1111 1111",
        "078-05-1120",
        "+49 30 901820",
    ),
    *(
        "Zoë",
        "zoe@example.org",
        "12.5",
        "2026-11-26",
        '{"a": 1}',
        '{"iv": "x"}',
        "https://example.org/a?b=c",
        "00:1a:2b:3c:4d:5e",
    ),
    *(
        "DE89370400440532013000",
        "fe80::1ff:fe23:4567:890a",
        "Hauptstraße 5",
        "a:b:c",
        "x--y--z",
        "v1.2.3",
        "NULL",
        "-----BEGIN",
        " ",
    ),
]
# Only a key can tell these from ciphertext: they are hashes, tokens and keys.
RANDOM = [
    *(
        "d41d8cd98f00b204e9800998ecf8427e",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "6LeIxAcTAAAAAJcZVRqyHh71UMIEGNQ_MXjiZKhI",
    ),
    b"\x00\x9f\x92\x96" * 8,
]


@pytest.mark.parametrize("name", TOLD)
def test_a_layout_with_a_mark_is_told_by_its_shape(name: str) -> None:
    assert set(kinds(CASES[name].values)) == {EXPECTED[name]}


@pytest.mark.parametrize("name", UNTOLD)
def test_a_layout_without_a_mark_is_never_named(name: str) -> None:
    assert set(kinds(CASES[name].values)) <= {*OPAQUE.values(), "plain"}


@pytest.mark.parametrize("value", PLAIN)
def test_what_people_store_is_plain(value: str) -> None:
    assert kind(value) == "plain"


@pytest.mark.parametrize("value", RANDOM)
def test_what_looks_random_is_called_opaque(value: str | bytes) -> None:
    assert kind(value) in OPAQUE.values()


@given(st.uuids().map(str) | st.emails() | st.from_regex(r"\A[0-9]{16}\Z") | st.dates().map(str))
def test_no_usual_value_is_taken_for_ciphertext(value: str) -> None:
    assert kind(value) == "plain"


@given(st.text(max_size=40) | st.binary(max_size=80))
def test_every_value_has_a_kind(value: str | bytes) -> None:
    assert kind(value) in {*MARKED, *OPAQUE.values(), "plain", "empty"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case.layout, str)])
def test_a_trial_finds_the_layout_that_opens_all(name: str) -> None:
    case = CASES[name]
    found = trial(case.values, case.key)
    assert case.layout in {result.name for result in found if result.opened == result.tried}


def test_a_trial_with_another_key_finds_no_layout_that_authenticates() -> None:
    other = parse("hex", b"00" * 32)
    for name in ("node_v1", "lockbox", "secretbox"):
        assert not [result for result in trial(CASES[name].values, other) if result.authenticates]
