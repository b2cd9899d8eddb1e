"""Pickles: the values of a few types are read as Python's own pickle reads them, and nothing that a pickle asks for is
called.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope.foreign import pickles
from pg_envelope.foreign.bad import FAILS
from pg_envelope.foreign.pickles import NAMED, of_pickle

ZONES = st.none() | st.just(UTC) | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+10"), Decimal("0E-9")]
)
SCALARS = st.one_of(
    *(st.dates(), st.datetimes(timezones=ZONES), st.times(timezones=ZONES), st.timedeltas(), DECIMALS),
    st.uuids(allow_nil=True),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
TREES = st.recursive(
    PLAIN | SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
).filter(lambda found: isinstance(found, list | dict))
PROTOCOLS = st.sampled_from([2, 3, 4, 5])


@given(SCALARS, PROTOCOLS)
def test_a_value_is_read_as_its_text(value: object, protocol: int) -> None:
    assert of_pickle(pickle.dumps(value, protocol)).decode() == str(value)


@given(TEXTS | st.binary(), PROTOCOLS)
def test_texts_and_bytes_are_read_as_they_are(value: str | bytes, protocol: int) -> None:
    wanted = value.encode() if isinstance(value, str) else value
    assert of_pickle(pickle.dumps(value, protocol)) == wanted


@given(TREES, PROTOCOLS)
def test_containers_become_json(value: Any, protocol: int) -> None:
    assert json.loads(of_pickle(pickle.dumps(value, protocol))) == json.loads(json.dumps(value, default=str))


def test_the_time_zone_of_older_releases_of_django() -> None:
    written = pickle.dumps(datetime(2026, 11, 27, 12, tzinfo=UTC), 2)
    of_pytz = written.replace(b"cdatetime\ntimezone\n", b"cpytz\n_UTC\n")
    start = of_pytz.index(b"cpytz")
    assert of_pickle(of_pytz[:start] + b"cpytz\n_UTC\n)R\x86R.") == b"2026-11-27 12:00:00+00:00"


class Calls:
    """What a hostile pickle calls, with which arguments."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self._made = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._made


def calling(marker: Path) -> dict[str, bytes]:
    """Pickles that would leave a file at `marker`, or change the reader, or fill the memory."""
    touch = f"open({str(marker)!r}, 'w')"
    shared = b"\x80\x04]\x94K\x01a" + b"".join(b"]\x94(" + b"h%c" % at * 10 + b"e" for at in range(30)) + b"."
    named = b"cdatetime\ndate\n"
    return {
        "system": pickle.dumps(Calls(__import__("os").system, f"touch {marker}")),
        "eval": pickle.dumps(Calls(eval, touch)),
        "exec, protocol 0": pickle.dumps(Calls(exec, touch), 0),
        "open": pickle.dumps(Calls(open, str(marker), "w")),
        "in a list": pickle.dumps([date(2026, 1, 1), Calls(eval, touch)]),
        "as an argument": named + pickle.dumps(Calls(eval, touch), 0)[:-1] + b"\x85R.",
        "in the state of a UUID": pickle.dumps(uuid.UUID(int=5)).replace(b"K\x05", b"cbuiltins\neval\n"),
        "INST": b"(S'" + touch.encode() + b"'\nibuiltins\neval\n.",
        "OBJ": b"(cbuiltins\neval\nS'" + touch.encode() + b"'\no.",
        "a dotted name": b"\x80\x04\x8c\x08datetime\x8c\x0edate.fromordinal\x93K\x01\x85R.",
        "a dotted name of a module": b"\x80\x04\x8c\x04uuid\x8c\tos.system\x93\x8c\x02id\x85R.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent name": b"Pname\n.",
        "the state of a constructor": named + b"}S'make'\nK\x01sb.",
        "attributes of a constructor": named + b"N}S'make'\nK\x01s\x86b.",
        "attributes of a UUID's constructor": b"cuuid\nUUID\nN}S'__setstate__'\nK\x01s\x86b.",
        "a constructor alone": named + b".",
        "a UUID without a state": b"\x80\x04cuuid\nUUID\n)\x81.",
        "a UUID by a call": b"\x80\x04cuuid\nUUID\nK\x05\x85R.",
        "a new object of a date": b"\x80\x04" + named + b")\x81.",
        "bytes of a length": b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        "codecs": b"c_codecs\nencode\nS'x'\nS'zlib'\n\x86R.",
        "decode": b"c_codecs\ndecode\nC\x01xS'latin1'\n\x86R.",
        "a number of a date": named + b"(K\x01K\x01K\x01tR.",
        "a wrong date": named + b"C\x04\x07\xea\x0d\x01\x85R.",
        "a date without a day": named + b"C\x04\x07\xea\x01\x00\x85R.",
        "a wrong hour": b"cdatetime\ntime\nC\x06\x18\x00\x00\x00\x00\x00\x85R.",
        "a short time": b"cdatetime\ntime\nC\x05\x00\x00\x00\x00\x00\x85R.",
        "a zone that is none": b"cdatetime\ntime\nC\x06\x00\x00\x00\x00\x00\x00K\x01\x86R.",
        "an offset of days": b"cdatetime\ntimezone\ncdatetime\ntimedelta\n(K\x02K\x00K\x00tR\x85R.",
        "a huge span": b"cdatetime\ntimedelta\n(J\xff\xff\xff\x7fK\x00K\x00tR.",
        "a span of truths": b"cdatetime\ntimedelta\n(\x88K\x00K\x00tR.",
        "a number with words": b"cdecimal\nDecimal\n\x8c\x04sNaN\x85R.",
        "a number of wide digits": b"\x80\x04cdecimal\nDecimal\n\x8c\x03\xef\xbc\x91\x85R.",
        "a negative UUID": b"\x80\x04cuuid\nUUID\n)\x81}\x8c\x03intJ\xff\xff\xff\xffsb.",
        "a far place in the memo": b"\x80\x04K\x01r\xff\xff\xff\xff.",
        "a far place in text": b"K\x01p99999999999\n.",
        "a list many times": shared,
        "a list in itself": b"\x80\x04]\x94h\x00a.",
        "eight bytes of length": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0fx.",
        "a surrogate": pickle.dumps("\ud800"),
        "an escape that is none": b"cdatetime\ndate\nS'\\e'\n\x85R.",
        "nothing": b"",
        "no end": b"\x80\x04K\x01",
        "depth": b"]" * 100_000 + b"a" * 99_999 + b".",
    }


@pytest.mark.parametrize("name", calling(Path("/")))
def test_a_hostile_pickle_does_not_open(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "called"
    with pytest.raises(FAILS):
        of_pickle(calling(marker)[name])
    assert not marker.exists()
    assert of_pickle(pickle.dumps(date(2026, 11, 27))) == b"2026-11-27", "no pickle changes what the next one reads"


@settings(max_examples=1000)
@given(SCALARS | TREES, PROTOCOLS, st.data())
def test_no_altered_pickle_raises_anything_else(value: object, protocol: int, data: st.DataObject) -> None:
    content = bytearray(pickle.dumps(value, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(*FAILS):
        of_pickle(bytes(content))


def test_only_these_are_named() -> None:
    allowed = ["date", "datetime", "time", "timedelta", "timezone", "_UTC", "Decimal", "UUID", "encode", "bytes"]
    assert [name for _, name in NAMED] == allowed
    assert not {"os", "importlib", "builtins"} & set(vars(pickles))


def test_times_and_spans_keep_their_parts() -> None:
    values = [time(1, 2, 3, 4, fold=1), timedelta(-1, 3), datetime(2026, 10, 25, 2, 30, fold=1)]
    found = [of_pickle(pickle.dumps(value)) for value in values]
    assert found == [b"01:02:03.000004", b"-1 day, 0:00:03", b"2026-10-25 02:30:00"]


@pytest.mark.parametrize("value", ["x" * 255, "x" * 256, "é" * 70_000, b"\x94." * 200, "q\0.", ""])
def test_long_texts_and_texts_that_look_like_an_end(value: str | bytes) -> None:
    for protocol in range(2, 6):
        wanted = value.encode() if isinstance(value, str) else value
        assert of_pickle(pickle.dumps(value, protocol)) == wanted
