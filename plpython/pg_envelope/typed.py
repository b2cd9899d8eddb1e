"""Stands in for `typing` in the modules that every new connection imports.

Its import, with that of `re` and `enum`, takes a sixth of a connection's first read. At run time those modules need
little of it: annotations are never evaluated there.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import (
        Any,
        ClassVar,
        Final,
        Literal,
        NamedTuple,
        NoReturn,
        NotRequired,
        Protocol,
        TypedDict,
        TypeVar,
        Union,
        cast,
    )
else:

    class _Form:
        """Takes the place of whatever only a type checker looks at, as a base class too."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __class_getitem__(cls, _: object) -> type[_Form]:
            return cls

        def __or__(self, _: object) -> _Form:
            return self

    class _Fields(type):
        """Makes a named tuple of a class that declares its fields, as typing.NamedTuple does."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = list(body.pop("__annotations__", ()))
            defaults = [body.pop(field) for field in fields if field in body]
            fields_of = namedtuple(name, fields, defaults=defaults)
            return type(name, (fields_of,), {"__slots__": (), **body})

    class NamedTuple(metaclass=_Fields):
        pass

    def cast(_: object, value: object) -> object:
        return value

    Any = ClassVar = Final = Literal = NoReturn = NotRequired = Protocol = TypeVar = Union = _Form
    TypedDict = dict

__all__ = [
    "TYPE_CHECKING",
    "Any",
    "ClassVar",
    "Final",
    "Literal",
    "NamedTuple",
    "NoReturn",
    "NotRequired",
    "Protocol",
    "TypeVar",
    "TypedDict",
    "Union",
    "cast",
]
