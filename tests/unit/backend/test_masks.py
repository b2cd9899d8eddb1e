"""Masks: what each kind shows, that it takes every text, and what mask() refuses."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.backend.masks import amounts, kinds, texts
from pg_envelope.backend.masks.kinds import MaskedColumn

SECRET = b"a secret of thirty-two characters"
TEXT = MaskedColumn("text", "text", "S", is_bytes=False, is_strict=False)
INT2 = MaskedColumn("int2", "smallint", "N", is_bytes=False, is_strict=False)
PRICE = MaskedColumn("numeric", "numeric(6,2)", "N", is_bytes=False, is_strict=False)
DATE = MaskedColumn("date", "date", "D", is_bytes=False, is_strict=False)
BYTES = MaskedColumn("bytea", "bytea", "U", is_bytes=True, is_strict=False)
STRICT = MaskedColumn("text", "text", "S", is_bytes=False, is_strict=True)
SHOWN: list[tuple[texts.Mask, str, str | None]] = [
    (texts.email, "adalovelace@example.org", "a***@example.org"),
    (texts.email, "ada@example.org", "***@example.org"),
    (texts.email, "a@b@c.org", "***@c.org"),
    (texts.email, "no address", "***"),
    (texts.phone, "+31 (0)20-123 45 67", "***4567"),
    (texts.phone, "1234567", "***"),
    (texts.pan, "4111 1111-11111111", "411111***1111"),
    (texts.pan, "123456789012", "***9012"),
    (texts.pan, "4111x11111111111", "***"),
    (texts.pan, "４１１１１１１１１１１１１１１１", "***"),
    (texts.iban, "nl91 abna 0417 1643 00", "NL91***4300"),
    (texts.iban, "NL91", "***"),
    (texts.partial(0, 4), "000-00-0123", "***0123"),
    (texts.partial(2, 2), "abcdefgh", "ab***gh"),
    (texts.partial(2, 2), "abcdefg", "***"),
    (texts.partial(0, 0), "", "***"),
    (texts.nothing, "anything", None),
    (texts.constant("hidden"), "anything", "hidden"),
    (amounts.year, "1815-12-10", "1815-01-01"),
    (amounts.year, "12815-12-10 BC", None),
    (amounts.year, "0044-03-15 BC", "0044-01-01 BC"),
    (amounts.year, "2026-01-02 01:04:00.5+00", "2026-01-01 00:00:00+00"),
    (amounts.year, "infinity", None),
    (amounts.bucket(Decimal(10000)), "-32768", "-30000"),
    (amounts.bucket(Decimal("0.25")), "1.37", "1.25"),
    (amounts.bucket(Decimal(10)), "1e+20", "100000000000000000000"),
    (amounts.bucket(Decimal(10)), "NaN", None),
]


@pytest.mark.parametrize(("mask", "value", "shown"), SHOWN)
def test_what_a_kind_shows(mask: texts.Mask, value: str, shown: str | None) -> None:
    assert mask(value, "1") == shown


@given(st.text())
def test_a_mask_of_a_text_takes_every_text_and_hides_most_of_it(value: str) -> None:
    for mask in (texts.email, texts.phone, texts.pan, texts.iban, texts.partial(2, 3)):
        shown = mask(value, "1")
        assert shown is not None
        assert "***" in shown
    assert len(texts.keyed_hash(SECRET)(value, "1") or "") == texts.HASH_DIGITS


@given(st.text(), st.integers(0, 20), st.integers(0, 20))
def test_at_least_half_of_a_value_stays_hidden(value: str, first: int, last: int) -> None:
    shown = texts.partial(first, last)(value, "1") or ""
    assert len(shown.replace(texts.HIDDEN, "", 1)) * 2 <= max(len(value), len(shown) - len(texts.HIDDEN))


@given(st.text(), st.text())
def test_hashes_are_equal_for_equal_values_only(one: str, other: str) -> None:
    mask = texts.keyed_hash(SECRET)
    assert (mask(one, "1") == mask(other, "2")) == (one == other)
    assert texts.keyed_hash(b"another" + SECRET)(one, "1") != mask(one, "1")


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-9999, max_value=9999, places=2)


@given(NUMBERS, st.decimals(min_value="0.01", max_value=5000, places=2))
def test_a_bucket_is_a_multiple_between_zero_and_the_value(value: Decimal, size: Decimal) -> None:
    shown = Decimal(amounts.bucket(size)(str(value), "1") or "")
    assert shown % size == 0
    assert abs(shown) <= abs(value) < abs(shown) + size


@given(NUMBERS, st.decimals(min_value="0.01", max_value=5000, places=2), st.text())
def test_noise_is_within_its_spread_and_the_type_s_range(value: Decimal, spread: Decimal, row: str) -> None:
    mask = amounts.noise(SECRET, spread, "numeric", "numeric(6,2)")
    shown = Decimal(mask(str(value), row) or "")
    assert mask(str(value), row) == str(shown)
    assert abs(shown) <= Decimal("9999.99")
    assert abs(shown - value) <= spread + Decimal("0.01")


@given(st.integers(-(2**15), 2**15 - 1), st.integers(1, 2**16))
def test_noise_of_whole_numbers_is_a_whole_number_of_the_type(value: int, spread: int) -> None:
    shown = amounts.noise(SECRET, Decimal(spread), "int2", "smallint")(str(value), "1")
    assert abs(int(shown or "")) < 2**15


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_amounts_take_every_float(value: float) -> None:
    for mask in (amounts.bucket(Decimal("0.5")), amounts.noise(SECRET, Decimal("0.5"), "float8", "double precision")):
        shown = mask(repr(value).replace("inf", "Infinity").replace("nan", "NaN"), "1")
        assert shown is None or float(shown) is not None


@given(st.dates())
def test_a_year_is_a_date(value: date) -> None:
    assert date.fromisoformat(amounts.year(value.isoformat(), "1") or "") == value.replace(month=1, day=1)


REFUSED: list[tuple[str | None, Any, MaskedColumn]] = [
    (None, {}, TEXT),
    ("full", {}, TEXT),
    ("email", {"text": "x"}, TEXT),
    ("email", [], TEXT),
    ("email", {"search": "yes"}, TEXT),
    ("clear", {"search": True}, TEXT),
    ("text", {}, TEXT),
    ("text", {"text": 1}, TEXT),
    ("text", {"text": "a\0b"}, TEXT),
    ("partial", {"first": -1, "last": 2}, TEXT),
    ("partial", {"first": True, "last": 2}, TEXT),
    ("partial", {"first": 1, "last": 1000}, TEXT),
    ("hash", {"secret": ""}, TEXT),
    ("year", {}, TEXT),
    ("email", {}, DATE),
    ("email", {}, STRICT),
    ("text", {"text": "x"}, BYTES),
    ("bucket", {"size": 0}, INT2),
    ("bucket", {"size": 2.5}, INT2),
    ("bucket", {"size": "NaN"}, PRICE),
    ("bucket", {"size": "1e999999999"}, PRICE),
    ("bucket", {"size": "1e999999999"}, INT2),
    ("bucket", {"size": "1e-999999999"}, PRICE),
    ("bucket", {"size": True}, PRICE),
    ("bucket", {"size": None}, PRICE),
    ("noise", {"spread": 5}, PRICE),
]


@pytest.mark.parametrize(("kind", "arguments", "column"), REFUSED)
def test_what_is_refused(kind: str | None, arguments: Any, column: MaskedColumn) -> None:
    with pytest.raises(errors.BadInput) as caught:
        kinds.check(kind, arguments, column)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "arguments", "column"),
    [
        ("clear", {}, BYTES),
        ("null", {}, STRICT),
        ("text", {"text": "x"}, STRICT),
        ("email", {"search": True}, TEXT),
        ("bucket", {"size": "0.25"}, PRICE),
        ("noise", {"spread": 2.5, "secret": "s"}, PRICE),
        ("year", {}, DATE),
    ],
)
def test_what_fits(kind: str, arguments: Any, column: MaskedColumn) -> None:
    kinds.check(kind, arguments, column)
    assert kinds.make(kind, arguments, column, SECRET) is not None or kind == "clear"
