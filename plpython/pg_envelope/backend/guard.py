"""Stands between SQL and the package: it converts values, and lets no exception pass that could hold one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pg_envelope import errors
from pg_envelope.backend.host import NAME, Host
from pg_envelope.typed import Any, NoReturn, Protocol, TypeVar

Result = TypeVar("Result")


def text(content: bytes) -> str:
    """Returns the content as text. Raises UnicodeError for bytes that are not UTF-8.

    Raises InvalidEnvelope for a byte 00, because PL/Python would end the text there.
    """
    if 0 in content:
        raise errors.InvalidEnvelope
    return content.decode()


class Guard:
    """Wraps what SQL functions call. Every error leaves as PostgreSQL's, with a text that this package wrote."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tell: Callable[[errors.EnvelopeError], None] | None = None

    def tell_errors(self, tell: Callable[[errors.EnvelopeError], None]) -> None:
        """Makes `tell` hear of each error of the package's own from now on. `tell` must not raise."""
        self._tell = tell

    def plain(self, call: Callable[..., Result]) -> Callable[..., Result]:
        def guarded(*arguments: Any) -> Result:
            try:
                return call(*arguments)
            except Exception as error:
                self._fail(error)

        return guarded

    def text_out(self, call: Callable[..., bytes | None]) -> Callable[..., str | None]:
        """Wraps a call that returns content, and turns its bytes into text."""

        def guarded(*arguments: Any) -> str | None:
            try:
                content = call(*arguments)
                return None if content is None else text(content)
            except Exception as error:
                self._fail(error)

        return guarded

    def text_in(self, call: Callable[..., Result]) -> Callable[..., Result]:
        """Wraps a call whose first argument is content, and turns its text into bytes."""

        def guarded(value: str | None, *arguments: Any) -> Result:
            try:
                return call(None if value is None else value.encode(), *arguments)
            except Exception as error:
                self._fail(error)

        return guarded

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, UnicodeError):
            error = errors.InvalidEnvelope()
        if isinstance(error, errors.EnvelopeError):
            if self._tell is not None:
                self._tell(error)
            self._host.fail(error)
        passed = self._host.passed_on(error)
        if passed is not None:
            self._host.fail(passed, foreseen=str(error).startswith(f"{NAME}: "))
        if _is_left_out(error):
            self._host.fail(errors.Unsupported("the FIPS provider does not have this algorithm"))
        self._host.fail(errors.EnvelopeError(detail=_place(error)), foreseen=False)


class Guarded(Protocol):
    """What has parts that are loaded late."""

    @property
    def guard(self) -> Guard: ...


Owner = TypeVar("Owner", bound=Guarded)


def late(load: Callable[[Owner], Result]) -> cached_property[Result]:
    """Makes a property that is loaded at its first use, so that a session imports only what it uses.

    An error of the import leaves through the guard.
    """

    def loaded(owner: Owner) -> Result:
        return owner.guard.plain(load)(owner)

    return cached_property(loaded)


def _is_left_out(error: Exception) -> bool:
    """Tells whether `cryptography` refused an algorithm because the FIPS provider lacks it."""
    from pg_envelope import fips

    if not fips.active():
        return False
    from cryptography.exceptions import UnsupportedAlgorithm

    return isinstance(error, UnsupportedAlgorithm)


def _place(error: Exception) -> str:
    """Returns the place in the code where an unforeseen exception arose. That is enough to report it without its
    text.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error).__name__
    code = traceback.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name}, line {traceback.tb_lineno}"
