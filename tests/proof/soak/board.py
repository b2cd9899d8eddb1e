"""What was announced and what came: every error must be of a kind that an act under way had announced."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

# So many surprises are kept word by word; the others would say the same.
MOST = 20


@dataclass
class Window:
    """From just before an act until all is well again. `only`: the tenant that it concerns; None: everybody."""

    what: str
    codes: frozenset[str]
    only: str | None
    began: float
    ended: float = math.inf

    def covers(self, begun: float, code: str, tenant: str | None, late: float) -> bool:
        """Whether a statement since `begun` may end with `code`, on a server that is `late` seconds behind."""
        return begun <= self.ended + late and code in self.codes and self.only in (None, tenant)


class Board:
    """Shared by all threads of a soak. `surprises` is empty when nothing went wrong."""

    def __init__(self) -> None:
        self.surprises: list[str] = []
        self.statements: Counter[str] = Counter()
        self.announced_errors: Counter[str] = Counter()
        self._windows: list[Window] = []
        self._denied: list[Window] = []
        self._lock = threading.Lock()

    @contextmanager
    def announce(self, what: str, *codes: str, only: str | None = None) -> Iterator[None]:
        """While this lasts, statements may end with these SQLSTATEs."""
        yield from self._open(self._windows, Window(what, frozenset(codes), only, time.monotonic()))

    @contextmanager
    def deny(self, tenant: str) -> Iterator[None]:
        """While this lasts, no read of this tenant's values may succeed."""
        yield from self._open(self._denied, Window("denied", frozenset(), tenant, time.monotonic()))

    def _open(self, windows: list[Window], window: Window) -> Iterator[None]:
        windows.append(window)
        try:
            yield
        finally:
            window.ended = time.monotonic()

    def done(self, kind: str, begun: float, tenant: str | None = None) -> None:
        """A statement of this kind succeeded, and was begun then."""
        now = time.monotonic()
        with self._lock:
            self.statements[kind] += 1
        if tenant and any(one.only == tenant and one.began <= begun and now < one.ended for one in self._denied):
            self.surprise(f"a {kind} of {tenant} succeeded although its keys are suspended")

    def failed(
        self, kind: str, begun: float, error: psycopg.Error, tenant: str | None = None, late: float = 0.0
    ) -> None:
        """A statement of this kind failed, and was begun then."""
        code = error.sqlstate or "no SQLSTATE"
        windows = [window for window in self._windows if window.covers(begun, code, tenant, late)]
        if not windows:
            self.surprise(f"{kind}: {code} {error}")
            return
        with self._lock:
            self.announced_errors[f"{code} ({windows[-1].what})"] += 1

    def surprise(self, text: str) -> None:
        with self._lock:
            if len(self.surprises) < MOST:
                self.surprises.append(text)
