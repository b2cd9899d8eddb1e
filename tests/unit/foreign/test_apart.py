"""Every value whose library keeps IV and salt in other columns reads as what it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.foreign.bad import BadLayout
from pg_envelope.foreign.keys import parse
from pg_envelope.foreign.presets import reader_of, slow
from tests.unit.foreign.fix_apart import APART, CBC_SALT, GCM
from tests.unit.foreign.fix_cases import read

SALTED = APART["attr_encrypted_cbc_salt"]


@pytest.mark.parametrize("name", APART)
def test_every_value_reads_as_it_was_written(name: str) -> None:
    case = APART[name]
    reader = reader_of(case.spec, case.key)
    assert [reader.open(value).decode() for value in case.values] == case.plain
    assert all(map(reader.fits, case.values))
    assert slow(case.spec) is (case is SALTED)


@pytest.mark.parametrize("name", APART)
def test_parts_of_another_row_open_nothing(name: str) -> None:
    case = APART[name]
    reader = reader_of(case.spec, case.key)
    mixed = [(row[0], *other[1:]) for row, other in zip(case.rows, reversed(case.rows), strict=True) if row != other]
    opened = [value for value in case._replace(rows=mixed).values if reader.opens(value)]
    assert not (reader.authenticates and opened)


@given(st.binary(max_size=40))
def test_a_salt_without_its_prefix_opens_nothing(salt: bytes) -> None:
    reader = reader_of(SALTED.spec, SALTED.key)
    value, iv, _ = SALTED.rows[0]
    for given_salt in (salt, b" _" + salt, b"_"):
        (found,) = SALTED._replace(rows=[(value, iv, given_salt)]).values
        assert not reader.opens(found)


BAD: list[Any] = [5, "", [], None, {}, True]


@pytest.mark.parametrize("prefix", BAD)
def test_a_prefix_is_a_text(prefix: Any) -> None:
    with pytest.raises(BadLayout):
        reader_of({**CBC_SALT, "salt": {"column": "*_salt", "prefix": prefix}}, SALTED.key)
    with pytest.raises(BadLayout):
        reader_of({**GCM, "iv": {"constant": "00" * 12, "prefix": "_"}}, APART["attr_encrypted"].key)


def test_the_other_fields_of_the_django_libraries() -> None:
    """An EmailField is a text, and an IntegerField becomes the text of its number."""
    found = read("django_cryptography")
    reader = reader_of("django_cryptography", parse("django", found["secret_key"].encode()))
    assert [reader.open(bytes.fromhex(found[name])) for name in "en"] == [b"a@b.c", b"42"]
    found = read("django_fernet_fields")
    reader = reader_of("django_fernet_fields", parse("django", found["fernet_keys"][0].encode()))
    assert reader.open(bytes.fromhex(found["n"])) == b"42"
