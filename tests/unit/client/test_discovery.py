"""The forms of personal data: what is generated as one fits, and with one digit changed it does not."""

from __future__ import annotations

import string
from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pg_envelope_client.discovery import shapes
from pg_envelope_client.discovery.judging import judge

DIGIT = st.sampled_from(string.digits)


def numbers(size: int) -> st.SearchStrategy[str]:
    return st.text(DIGIT, min_size=size, max_size=size)


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country = draw(st.sampled_from(["DE", "GB", "NO", "MT"]))
    account = draw(st.text(string.digits + string.ascii_uppercase, min_size=11, max_size=27))
    digits = "".join(str(int(letter, 36)) for letter in f"{account}{country}00")
    return f"{country}{98 - int(digits) % 97:02}{account}"


@st.composite
def pans(draw: st.DrawFn) -> str:
    start = draw(st.sampled_from("23456")) + draw(numbers(draw(st.integers(11, 17))))
    return next(start + last for last in string.digits if checksum(start + last) == 0)


def checksum(digits: str) -> int:
    """Luhn's sum, written down a second time."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10


@given(ibans())
def test_an_iban_is_found(iban: str) -> None:
    assert shapes.is_iban(iban)
    assert shapes.is_iban(" ".join(iban[at : at + 4] for at in range(0, len(iban), 4)))


@given(ibans(), st.integers(4, 14), DIGIT)
def test_an_iban_with_another_digit_is_none(iban: str, place: int, digit: str) -> None:
    assume(iban[place].isdigit() and iban[place] != digit)
    changed = iban[:place] + digit + iban[place + 1 :]
    assert not shapes.is_iban(changed)


@given(pans(), st.integers(1, 11), DIGIT)
def test_a_card_number_is_found_and_with_another_digit_it_is_none(pan: str, place: int, digit: str) -> None:
    assert shapes.is_pan(pan) == (len(set(pan)) > 1)
    changed = pan[:place] + digit + pan[place + 1 :]
    assert not shapes.is_pan(changed) or digit == pan[place]


@given(st.dates(date(1930, 1, 1), date.today() - timedelta(13 * 366)))
def test_a_date_of_birth_is_found(day: date) -> None:
    assert shapes.is_birth_date(day.isoformat())
    assert not shapes.is_birth_date((date.today() - timedelta(30)).isoformat())


@given(st.text(max_size=80))
def test_any_text_is_judged(text: str) -> None:
    assert {type(shape.fits(text)) for shape in shapes.SHAPES} == {bool}
    judge(text, [text] * 5)


@pytest.mark.parametrize(
    ("kind", "fitting", "others"),
    [
        (shapes.is_email, ["a@b.de", "Zoë.x+y@sub.exämple.org"], ["a@b", "@b.de", "a b@c.de", "user@", "x <a@b.de>"]),
        (
            shapes.is_phone,
            ["+49 30 1234567", "(212) 555-1234", "030/1234567", "0049 30 123456"],
            ["2026-11-26", "192.168.10.100", "1234567", "12.11.2026", "+1", "room 0301234567"],
        ),
        (shapes.is_ssn, ["123-45-6789"], ["000-45-6789", "666-45-6789", "923-45-6789", "123-00-6789", "123456789"]),
        (
            shapes.is_secret,
            ["AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 18, "q7Xk2LmP0vZt9RcY4wBn8HsD", "-----BEGIN PRIVATE KEY-----\nx"],
            [
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "d41d8cd98f00b204e9800998ecf8427e",
                "a plain sentence of 30 letters",
            ],
        ),
        (shapes.is_birth_date, ["1970-01-01", "1970-01-01T00:00:00"], ["1970-13-01", "70-01-01", "1800-01-01", "now"]),
        (
            shapes.holds_one,
            ["write to a@b.de, please", "card 4111 1111 1111 1111."],
            ["nothing here", "order 4111111111111112"],
        ),
    ],
)
def test_forms(kind: object, fitting: list[str], others: list[str]) -> None:
    assert callable(kind)
    assert [text for text in fitting if not kind(text)] == []
    assert [text for text in others if kind(text)] == []


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("EmailAddress", "e-mail"),
        ("E-Mail", "e-mail"),
        ("customerDob", "date of birth"),
        ("date_of_birth", "date of birth"),
        ("last_name", "name of a person"),
        ("password_hash", "password"),
        ("span", None),
        ("company", None),
        ("id", None),
    ],
)
def test_a_name_is_a_hint_where_no_value_says_more(column: str, kind: str | None) -> None:
    found = judge(column, ["?"] * 9)
    assert (found and found.kind) == kind
    assert found is None or found.share is None


def test_some_values_of_another_form_do_not_hide_a_column() -> None:
    found = judge("contact", ["a@b.de"] * 7 + ["unknown"] * 3)
    assert found is not None
    assert (found.kind, found.share, found.seen) == ("e-mail", 0.7, 10)
    assert judge("contact", ["a@b.de"] + ["unknown"] * 99) is None
