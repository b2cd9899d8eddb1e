"""Reads the values of one layout with one legacy key."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pg_envelope import errors
from pg_envelope.foreign.bad import FAILS

# Opens the bytes of one value; a text comes as UTF-8. Raises one of bad.FAILS.
Opener = Callable[[bytes], bytes]
Value = str | bytes
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class ForeignReader:
    """`authenticates`: an altered value does not open. `is_marked`: no usual text looks like one of its values.

    `shaped` raises one of bad.FAILS for a value that does not have the layout's shape. It needs no key. `own_part`
    returns what the column itself holds, where other columns hold parts of the value.
    """

    opener: Opener
    shaped: Opener
    authenticates: bool
    is_marked: bool
    own_part: Opener | None = None

    @property
    def sure(self) -> Opener:
        """Does what open() does for the bytes of a value, but raises any of bad.FAILS, or InvalidEnvelope."""
        return self.opener if self.authenticates else lambda value: self._checked(self.opener(value))

    def own(self, value: Value) -> bytes:
        """Returns the value without the parts that other columns hold."""
        return self.own_part(_bytes(value)) if self.own_part else _bytes(value)

    def open(self, value: Value) -> bytes:
        """Raises InvalidEnvelope, without a detail, for every value that does not open."""
        try:
            return self._checked(self.opener(_bytes(value)))
        except FAILS:
            raise errors.InvalidEnvelope from None

    def _checked(self, content: bytes) -> bytes:
        """An unauthenticated layout opens every tenth wrong value. Then the content is hardly ever a text."""
        if not self.authenticates and not is_text(content):
            raise errors.InvalidEnvelope
        return content

    def opens(self, value: Value) -> bool:
        return self.content(value) is not None

    def content(self, value: Value) -> bytes | None:
        """Returns what a value holds; None for one that does not open."""
        try:
            return self.open(value)
        except errors.InvalidEnvelope:
            return None

    def fits(self, value: Value) -> bool:
        """Tells whether a value has the layout's shape."""
        try:
            self.shaped(_bytes(value))
        except FAILS:
            return False
        return True


def _bytes(value: Value) -> bytes:
    return value.encode() if isinstance(value, str) else value


def is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_text(content: bytes) -> bool:
    """Tells whether bytes are UTF-8 without control characters."""
    try:
        return CONTROL.search(content.decode()) is None
    except UnicodeDecodeError:
        return False


def first_of(openers: list[Opener]) -> Opener:
    """Returns an opener that tries several keys, in their order. The last one's error is the whole one's."""
    if len(openers) == 1:
        return openers[0]

    def opened(value: bytes) -> bytes:
        for opener in openers[:-1]:
            try:
                return opener(value)
            except FAILS:
                continue
        return openers[-1](value)

    return opened
