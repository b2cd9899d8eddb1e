"""Reads a JSON object as a dataclass, whose annotations are the one declaration of what a member may hold."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from pg_envelope import errors

T = TypeVar("T")
# Turns a JSON value into the member's value. Raises ValueError.
Reader = Callable[[object], Any]
MAX_TEXT = 4096


@dataclass(frozen=True)
class Integer:
    least: int
    most: int

    def __call__(self, value: object) -> int:
        if type(value) is not int or not self.least <= value <= self.most:
            raise ValueError
        return value


@dataclass(frozen=True)
class Text:
    """At most MAX_TEXT characters, and all of `pattern` if there is one."""

    pattern: str = ""

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise ValueError
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise ValueError
        return value


@dataclass(frozen=True)
class Base64:
    """Bytes of one length, in base64 with padding."""

    length: int

    def __call__(self, value: object) -> bytes:
        content = base64.b64decode(Text()(value), validate=True)
        if len(content) != self.length:
            raise ValueError
        return content


@dataclass(frozen=True)
class Uuid:
    def __call__(self, value: object) -> UUID:
        return UUID(Text()(value))


@dataclass(frozen=True)
class Flag:
    def __call__(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value


@dataclass(frozen=True)
class Object:
    """Any JSON object."""

    def __call__(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError
        return value


@dataclass(frozen=True)
class Count:
    """The length of a list, with its limits. `different`: no DEK is in it twice."""

    least: int
    most: int
    different: bool = False

    def check(self, found: tuple[Any, ...]) -> None:
        ids = {getattr(one, "dek_id", one) for one in found}
        if not self.least <= len(found) <= self.most or (self.different and len(ids) < len(found)):
            raise ValueError


@dataclass(frozen=True)
class Member:
    """One member of a JSON object, for the attribute of its name. A null is the same as a missing member."""

    attribute: str
    read: Reader
    default: object

    @property
    def name(self) -> str:
        """The name in JSON. An attribute cannot have the name of a keyword, so it has `_` behind it."""
        return self.attribute.removesuffix("_")

    def value(self, found: dict[str, Any]) -> Any:
        given = found.get(self.name)
        if given is None and self.default is not MISSING:
            return self.default
        try:
            return self.read(given)
        except ValueError:
            raise bad(self.name) from None


def bad(name: str) -> errors.BadInput:
    """Returns the error. It names the member, and repeats nothing of its content."""
    return errors.BadInput(f"the request's member {name} is missing or not valid")


def read(kind: type[T], found: object) -> T:
    """Reads an object, and passes over members that `kind` does not declare. Raises BadInput, or ValueError for another
    type.
    """
    content = Object()(found)
    return kind(**{member.attribute: member.value(content) for member in members(cast(Any, kind))})


@cache
def members(kind: Any) -> tuple[Member, ...]:
    """Returns the members that a dataclass declares."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(Member(one.name, _reader(hints[one.name]), _default(hints[one.name], one)) for one in fields(kind))


def _default(hint: Any, declared: Any) -> object:
    if declared.default is MISSING and NoneType in get_args(hint):
        return None
    return declared.default


def _reader(hint: Any) -> Reader:
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(read, hint)
    if get_origin(hint) is tuple:
        return partial(_read_list, get_args(hint)[0], None)
    if get_origin(hint) is not Annotated:
        # X | None
        return _reader(next(kind for kind in get_args(hint) if kind is not NoneType))
    kind, rule = get_args(hint)
    if isinstance(rule, Count):
        return partial(_read_list, get_args(kind)[0], rule)
    return cast(Reader, rule)


def _read_list(kind: Any, count: Count | None, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError
    one = _reader(kind)
    found = tuple(one(item) for item in value)
    if count is not None:
        count.check(found)
    return found
