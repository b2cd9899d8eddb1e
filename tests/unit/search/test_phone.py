"""Telephone numbers: one number, however it is written, and texts that are none."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.backend.search.normalize import newest
from pg_envelope.normalizers import normalizer

REGIONS = st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS))
WRITTEN = [
    "030 1234567",
    "+49 30 1234567",
    "0049 (30) 123-4567",
    "(030) 123 45 67",
    "tel:+49-30-1234567",
    "+49301234567",
]
FORMS = [vars(phonenumbers.PhoneNumberFormat)[form] for form in ("E164", "INTERNATIONAL", "NATIONAL", "RFC3966")]


@pytest.mark.parametrize("text", WRITTEN)
def test_one_number_in_each_form(text: str) -> None:
    assert normalizer("phone-DE/1")(text) == "+49301234567"


@pytest.mark.parametrize(
    ("region", "text", "number"),
    [
        ("US", "(650) 253-0000", "+16502530000"),
        ("US", "+44 20 7946 0000", "+442079460000"),
        ("GB", "020 7946 0000 ext. 12", "+442079460000;ext=12"),
        ("IT", "02 1234567", "+39021234567"),
        ("DE", " n/a ", "n/a"),
        ("DE", "", ""),
        ("DE", "12345678901234567890", "12345678901234567890"),
    ],
)
def test_numbers_and_what_is_none(region: str, text: str, number: str) -> None:
    assert normalizer(f"phone-{region}/1")(text) == number


@given(region=REGIONS, form=st.sampled_from(FORMS))
def test_the_form_does_not_count(region: str, form: int) -> None:
    example = phonenumbers.example_number(region)
    assume(example is not None)
    text = phonenumbers.format_number(example, form)
    wanted = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    assert normalizer(f"phone-{region}/1")(text) == wanted


@given(text=st.text(), region=REGIONS)
def test_what_is_normalised_stays_as_it_is(text: str, region: str) -> None:
    once = normalizer(f"phone-{region}/1")(text)
    assert normalizer(f"phone-{region}/1")(once) == once


@pytest.mark.parametrize("name", ["phone", "phone-", "phone-de", "phone-XX", "phone-DEU", "phone-D1"])
def test_an_unknown_region_is_refused(name: str) -> None:
    with pytest.raises(errors.BadInput):
        newest(name)
