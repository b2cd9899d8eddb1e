"""Every value that a library wrote reads as what it was, and no altered one does."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.foreign.keys import LegacyKey, parse
from pg_envelope.foreign.presets import NAMES, reader_of, shape_of, slow
from tests.unit.foreign.fix_cases import CASES

NAMED = [name for name, case in CASES.items() if isinstance(case.layout, str)]
QUICK = [name for name, case in CASES.items() if not slow(case.layout)]
READERS = {name: reader_of(CASES[name].layout, CASES[name].key) for name in QUICK}
AUTHENTICATED = [name for name, reader in READERS.items() if reader.authenticates]


@pytest.mark.parametrize("name", CASES)
def test_every_value_reads_as_it_was_written(name: str) -> None:
    case = CASES[name]
    reader = reader_of(case.layout, case.key)
    assert [reader.open(value).decode() for value in case.values] == case.plain
    assert all(map(reader.fits, case.values))


@pytest.mark.parametrize("name", NAMED)
def test_the_shape_needs_no_key(name: str) -> None:
    shape = shape_of(str(CASES[name].layout))
    for value in CASES[name].values:
        shape(value.encode() if isinstance(value, str) else value)


@pytest.mark.parametrize("name", CASES)
def test_a_key_is_stored_and_read_again(name: str) -> None:
    key = CASES[name].key
    assert LegacyKey.of_stored(key.stored()) == key


@pytest.mark.parametrize("name", CASES)
def test_a_key_shows_nothing_of_itself(name: str) -> None:
    shown = repr(CASES[name].key)
    assert not any(repr(secret) in shown for secret in CASES[name].key.secrets)


@settings(max_examples=300)
@given(st.sampled_from(AUTHENTICATED), st.data())
def test_an_altered_value_never_reads_as_another(name: str, data: st.DataObject) -> None:
    case, reader = CASES[name], READERS[name]
    place = data.draw(st.integers(0, len(case.values) - 1))
    value = case.values[place]
    content = bytearray(value.encode() if isinstance(value, str) else value)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    try:
        opened = reader.open(bytes(content))
    except errors.InvalidEnvelope:
        return
    assert opened.decode() == case.plain[place], "another spelling of the same bytes"


@settings(max_examples=500)
@given(st.sampled_from(QUICK), st.one_of(st.binary(max_size=300), st.text(max_size=100)))
def test_bytes_that_are_no_ciphertext_give_the_one_error(name: str, value: bytes | str) -> None:
    reader = READERS[name]
    if reader.authenticates:
        assert not reader.opens(value)
    else:
        reader.opens(value)
    reader.fits(value)


@pytest.mark.parametrize("name", sorted(set(QUICK) - {"pgp_pub"}))
def test_another_key_opens_nothing(name: str) -> None:
    case = CASES[name]
    other = LegacyKey(
        case.key.form,
        tuple(bytes(byte ^ 1 for byte in secret) for secret in case.key.secrets),
        {named: bytes(byte ^ 1 for byte in secret) for named, secret in case.key.named.items()},
    )
    assert not any(map(reader_of(case.layout, other).opens, case.values))


def test_every_layout_with_a_name_can_tell_its_shape() -> None:
    assert all(callable(shape_of(name)) for name in NAMES)


def test_a_message_without_a_check_needs_its_own_layout() -> None:
    case = CASES["pgp_sym_nomdc"]
    assert not any(map(reader_of("pgp_sym", case.key).opens, case.values))
    assert not reader_of("pgp_sym_unchecked", case.key).authenticates


def test_an_rsa_key_in_pem_opens_what_its_jwk_opens() -> None:
    case = CASES["jwe_rsa"]
    private = serialization.load_der_private_key(case.key.secrets[0], None)
    kind, how = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    pem = private.private_bytes(kind, how, serialization.NoEncryption())
    reader = reader_of("jwe", parse("pem", pem))
    assert [reader.open(value).decode() for value in case.values] == case.plain


@pytest.mark.parametrize("name", ["django_cryptography", "django_fernet_fields"])
def test_each_key_of_a_django_list_is_tried(name: str) -> None:
    case = CASES[name]
    reader = reader_of(case.layout, parse("django", b"another\n" + case.secret + b"\nolder\n"))
    assert [reader.open(value).decode() for value in case.values] == case.plain
