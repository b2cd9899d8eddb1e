"""A range is covered by buckets of which each of its values has one, and by few of them."""

from __future__ import annotations

import hmac
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import buckets, errors
from pg_envelope.tokens import TokenKey

DATES = st.dates(date(1400, 1, 1), date(2600, 12, 31))
TIMES = st.datetimes(datetime(1499, 1, 1), datetime(2501, 1, 1))
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**7), max_value=10**7) | st.sampled_from(
    [Decimal(text) for text in ("1E+400", "-1E+400", "1E-400", "-1E-400", "-0", "100000", "-100000", "0.5")]
)
SPANS = st.sampled_from(["day", "month", "year"])
WIDTHS = st.sampled_from(["1", "7", "1000", "0.25", "0.1", "0.000003"])


def few(name: str) -> int:
    """The most buckets of any range: both ends of each level, the widest ones, and the two outside."""
    levels = {"day": 60 + 22 + 18 + 100, "month": 22 + 18 + 100, "year": 18 + 100}
    return levels.get(name, 3 * 18 + 200) + 2


def check(name: str, value: str, sought: str, is_within: bool) -> None:
    scale = buckets.scale(f"range-{name}/1")
    covered = scale.of_range(sought)
    assert len(covered) == len(set(covered)) <= few(name)
    if is_within:
        assert len(set(scale.of_value(value)) & set(covered)) == 1


@given(SPANS, DATES, DATES, DATES, st.sampled_from(["both", "low", "high"]))
def test_dates(name: str, value: date, one: date, other: date, ends: str) -> None:
    low, high = sorted((one, other))
    first = low.isoformat() if ends != "high" else ""
    last = high.isoformat() if ends != "low" else ""
    is_within = (not first or low <= value) and (not last or value < high)
    check(name, value.isoformat(), f"[{first},{last})", is_within)


@given(SPANS, TIMES, TIMES, st.timedeltas(timedelta(0), timedelta(900)), st.sampled_from("[("), st.sampled_from("])"))
def test_timestamps(name: str, value: datetime, low: datetime, width: timedelta, begin: str, end: str) -> None:
    high = low + width
    if low == high:
        begin, end = "[", "]"
    for moved in (value, low, high, high - timedelta(microseconds=1)):
        is_within = low < moved < high or (moved == low and begin == "[") or (moved == high and end == "]")
        check(name, str(moved), f'{begin}"{low}","{high}"{end}', is_within)
        check(name, f"{moved}+00", f'{begin}"{low}+00","{high}+00"{end}', is_within)


@given(WIDTHS, NUMBERS, NUMBERS, NUMBERS, st.sampled_from("[("), st.sampled_from("])"))
def test_numbers(name: str, value: Decimal, one: Decimal, other: Decimal, begin: str, end: str) -> None:
    low, high = sorted((one, other))
    if low == high:
        # Without both bounds it is empty, and PostgreSQL says so.
        begin, end = "[", "]"
    for moved in (value, low, high):
        is_within = low < moved < high or (moved == low and begin == "[") or (moved == high and end == "]")
        check(name, f"{moved:f}", f"{begin}{low:f},{high:f}{end}", is_within)


@pytest.mark.parametrize(
    ("name", "value", "sought", "found"),
    [
        ("month", "infinity", "[2000-01-01,)", True),
        ("month", "-infinity", "(,2000-01-01)", True),
        ("month", "infinity", "[2000-01-01,infinity]", True),
        ("month", "infinity", "[2000-01-01,2001-01-01)", False),
        ("month", "5874897-12-31", "[2000-01-01,infinity)", True),
        ("day", "0044-03-15 BC", '["0045-01-01 BC","0043-01-01 BC")', True),
        ("day", "0044-03-15 BC", "[1990-01-01,1991-01-01)", False),
        ("year", "1990-06-01", "(,)", True),
        ("year", "1990-06-01", "empty", False),
        ("1000", "NaN", "[5,)", True),
        ("1000", "NaN", "[5,NaN]", True),
        ("1000", "NaN", "[5,10)", False),
        ("1000", "-Infinity", "(,5)", True),
        ("0.1", "-0.3", "[-0.3,-0.3]", True),
        ("0.1", "-0.30001", "[-0.3,-0.2)", False),
    ],
)
def test_ends_of_the_scale(name: str, value: str, sought: str, *, found: bool) -> None:
    scale = buckets.scale(f"range-{name}/1")
    assert bool(set(scale.of_value(value)) & set(scale.of_range(sought))) is found


@given(st.floats(allow_nan=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_a_float_at_the_rounded_bound_is_found(value: float, bound: Decimal) -> None:
    scale = buckets.scale("range-0.1/1")
    text = repr(value).replace("inf", "Infinity")
    for one in (bound, Decimal(repr(value)) if abs(value) < 1e300 else bound):
        if value >= float(one):
            assert set(scale.of_value(text)) & set(scale.of_range(f"[{one:f},)", of_floats=True))
        if value <= float(one):
            assert set(scale.of_value(text)) & set(scale.of_range(f"(,{one:f}]", of_floats=True))


def test_a_bucket_that_the_range_only_touches_with_its_end_is_left_out() -> None:
    assert buckets.scale("range-month/1").of_range("[1990-01-01,1991-01-01)") == ["year 1990"]
    assert buckets.scale("range-month/1").of_range("[1990-02-14,1990-03-01)") == ["month 23881"]
    assert buckets.scale("range-month/1").of_range('["1990-02-14 10:00:00","1990-03-01 00:00:00"]') == [
        "month 23881",
        "month 23882",
    ]
    assert buckets.scale("range-1000/1").of_range("[0,100000)") == ["100000 0"]


@pytest.mark.parametrize(
    "bucket", ["week", "0", "0.0", "01", "1.50", "1e3", "", "-1", "5" * 13, "0.1234567", "month/1"]
)
def test_names_that_are_no_normalisers(bucket: str) -> None:
    name = f"range-{bucket}/1"
    assert not buckets.named(name)
    with pytest.raises(errors.Internal):
        buckets.scale(name)


@pytest.mark.parametrize("text", ["", "[1,2", "1", "[1,2,3)", "[1,2) "])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(errors.Internal):
        buckets.scale("range-10/1").of_range(text)


def test_the_worked_example() -> None:
    key = bytes(range(32))
    made = buckets.scale("range-month/1").of_value("1990-02-14")
    assert made == ["month 23881", "year 1990", "decade 199"]
    message = b"pg_envelope/1 gram\0range-month/1\0"
    expected = sorted(int.from_bytes(hmac.digest(key, message + run.encode(), "sha256")[:4], "big") for run in made)
    assert TokenKey(key).grams(made, "range-month/1") == expected
    assert expected == [88918659, 1231563169, 3316020821]
