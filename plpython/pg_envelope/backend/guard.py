"""The border between SQL and the package: conversions of values, and no exception that could hold one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from pg_envelope import errors
from pg_envelope.backend.host import NAME, Host

Result = TypeVar("Result")


def text(content: bytes) -> str:
    """Content as text. Raises UnicodeError for what is not UTF-8, InvalidEnvelope for 00: PL/Python would end there."""
    if 0 in content:
        raise errors.InvalidEnvelope
    return content.decode()


class Guard:
    """Wraps what SQL functions call. Every error leaves as PostgreSQL's, with a text that this package wrote."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tell: Callable[[errors.NotPermitted], None] | None = None

    def tell_refusals(self, tell: Callable[[errors.NotPermitted], None]) -> None:
        """From now on, `tell` hears of each refusal for want of a right; it must not raise."""
        self._tell = tell

    def plain(self, call: Callable[..., Result]) -> Callable[..., Result]:
        def guarded(*arguments: Any) -> Result:
            try:
                return call(*arguments)
            except Exception as error:
                self._fail(error)

        return guarded

    def text_out(self, call: Callable[..., bytes | None]) -> Callable[..., str | None]:
        """For a call that returns content: bytes to text."""

        def guarded(*arguments: Any) -> str | None:
            try:
                content = call(*arguments)
                return None if content is None else text(content)
            except Exception as error:
                self._fail(error)

        return guarded

    def text_in(self, call: Callable[..., Result]) -> Callable[..., Result]:
        """For a call whose first argument is content: text to bytes."""

        def guarded(value: str | None, *arguments: Any) -> Result:
            try:
                return call(None if value is None else value.encode(), *arguments)
            except Exception as error:
                self._fail(error)

        return guarded

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, UnicodeError):
            self._host.fail(errors.InvalidEnvelope())
        if isinstance(error, errors.NotPermitted) and self._tell is not None:
            self._tell(error)
        if isinstance(error, errors.EnvelopeError):
            self._host.fail(error)
        passed = self._host.passed_on(error)
        if passed is not None:
            self._host.fail(passed, foreseen=str(error).startswith(f"{NAME}: "))
        self._host.fail(errors.EnvelopeError(detail=_place(error)), foreseen=False)


def _place(error: Exception) -> str:
    """Where an unforeseen exception arose: enough to report it, and never its text."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error).__name__
    code = traceback.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name}, line {traceback.tb_lineno}"
