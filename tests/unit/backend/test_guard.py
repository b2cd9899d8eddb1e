"""The guard: no exception leaves with a text that the package did not write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pg_envelope import errors
from pg_envelope.backend.guard import Guard, late
from pg_envelope.backend.host import Host
from tests.unit.backend.fake_plpy import FakePlpy, PlpyError, SPIError

SECRET = "ann@example.org"


def raising(error: Exception) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        raise error

    return call


@pytest.fixture
def guard() -> Guard:
    return Guard(Host(FakePlpy()))


@pytest.fixture(params=["plain", "text_in", "text_out"])
def wrap(request: pytest.FixtureRequest, guard: Guard) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    wrapper: Callable[[Callable[..., Any]], Callable[..., Any]] = getattr(guard, request.param)
    return wrapper


def everything(error: BaseException) -> str:
    """All that PL/Python could print of an exception and of those behind it."""
    shown = ""
    seen: BaseException | None = error
    while seen is not None:
        shown += f"{seen!r} {vars(seen)}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return shown


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        KeyError(SECRET),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
        UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET),
        MemoryError(SECRET),
        RecursionError(SECRET),
        OSError(5, SECRET, SECRET),
        AssertionError(SECRET),
        PlpyError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_unforeseen_exception_tells_no_value(wrap: Callable[..., Any], error: Exception) -> None:
    with pytest.raises(PlpyError) as raised:
        wrap(raising(error))(SECRET)
    assert SECRET not in everything(raised.value)


def test_an_unforeseen_exception_tells_where_it_arose(guard: Guard) -> None:
    with pytest.raises(PlpyError) as raised:
        guard.plain(raising(ZeroDivisionError(SECRET)))()
    assert raised.value.detail.startswith("ZeroDivisionError in call, line ")  # type: ignore[attr-defined]
    assert raised.value.sqlstate == "58000"  # type: ignore[attr-defined]


def test_an_error_of_ours_keeps_its_fields(wrap: Callable[..., Any]) -> None:
    with pytest.raises(PlpyError, match="too long") as raised:
        wrap(raising(errors.ValueTooLong("too long", detail="d", hint="h")))("x")
    assert vars(raised.value) == {"sqlstate": "54000", "detail": "d", "hint": "h"}


def test_an_error_of_a_statement_keeps_its_fields(guard: Guard) -> None:
    with pytest.raises(PlpyError, match="canceling") as raised:
        guard.plain(raising(SPIError("canceling statement", "57014", None, "hint")))()
    assert vars(raised.value) == {"sqlstate": "57014", "hint": "hint"}


def test_text_is_utf_8_both_ways(guard: Guard) -> None:
    assert guard.text_in(lambda content: content)("ü") == "ü".encode()
    assert guard.text_out(lambda: "ü".encode())() == "ü"
    assert guard.text_in(lambda content: content)(None) is None
    assert guard.text_out(lambda: None)() is None


def test_bytes_that_are_no_text_are_a_bad_envelope(guard: Guard) -> None:
    with pytest.raises(PlpyError, match="cannot be opened") as raised:
        guard.text_out(lambda: b"\xff" + SECRET.encode())()
    assert SECRET not in everything(raised.value)


class Parts:
    def __init__(self, guard: Guard) -> None:
        self.guard, self.loads = guard, 0

    @late
    def good(self) -> list[int]:
        self.loads += 1
        return [self.loads]

    @late
    def bad(self) -> object:
        self.loads += 1
        raise ImportError(SECRET)


def test_a_late_part_is_loaded_once(guard: Guard) -> None:
    parts = Parts(guard)
    assert parts.loads == 0
    assert parts.good is parts.good
    assert parts.loads == 1


def test_the_error_of_a_late_part_leaves_through_the_guard_each_time(guard: Guard) -> None:
    parts = Parts(guard)
    for loads in (1, 2):
        with pytest.raises(PlpyError) as raised:
            _ = parts.bad
        assert SECRET not in everything(raised.value)
        assert parts.loads == loads
