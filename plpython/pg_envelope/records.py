"""Stands in for `dataclasses` in the modules that run inside PostgreSQL.

The library writes and compiles the text of several methods for each class, and imports a parser for that. It took a
seventh of the first administrative call of a session. The classes here share their methods instead.
"""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, replace
else:

    class _Factory:
        """A default that is made anew for each record."""

        def __init__(self, make: Callable[[], Any]) -> None:
            self.make = make

    _NONE = object()

    def field(*, default_factory: Callable[[], Any]) -> _Factory:
        return _Factory(default_factory)

    def dataclass(cls: type | None = None, /, *, frozen: bool = False) -> Any:
        """Gives a class the methods of a record of its annotations, but for those that it has itself."""
        if cls is None:
            return lambda made: dataclass(made, frozen=frozen)
        fields = {**getattr(cls, "_record", {}), **_declared(cls)}
        cls._record, cls.__match_args__ = fields, tuple(fields)
        methods = {"__init__": _init(fields), "__repr__": _repr, "__eq__": _eq, "__hash__": None}
        if frozen:
            methods |= {"__hash__": _hash, "__setattr__": _refuse, "__delattr__": _refuse}
        for name, method in methods.items():
            # A class that has an __eq__ and no __hash__ has got None as its __hash__ from Python.
            if cls.__dict__.get(name) is None:
                setattr(cls, name, method)
        return cls

    def _declared(cls: type) -> dict[str, Any]:
        """Returns a class's own fields with their defaults."""
        fields = {}
        for name, kind in cls.__annotations__.items():
            if not str(kind).startswith("ClassVar"):
                fields[name] = cls.__dict__.get(name, _NONE)
                if isinstance(fields[name], _Factory):
                    delattr(cls, name)
        return fields

    def _init(fields: dict[str, Any]) -> Callable[..., None]:
        names, known = tuple(fields), fields.keys()
        made = [(name, value.make) for name, value in fields.items() if isinstance(value, _Factory)]
        defaults = {name: value for name, value in fields.items() if value is not _NONE and name not in dict(made)}

        def init(self: Any, *values: Any, **named: Any) -> None:
            given = dict(zip(names, values, strict=False))
            if len(values) > len(names) or given.keys() & named:
                raise TypeError(f"{type(self).__name__} got more values than it has fields, or one of them twice")
            given = {**defaults, **given, **named}
            for name, make in made:
                if name not in given:
                    given[name] = make()
            if given.keys() != known:
                raise TypeError(f"{type(self).__name__} lacks, or does not have: {sorted(given.keys() ^ known)}")
            self.__dict__.update(given)

        return init

    def _values(record: Any) -> tuple[Any, ...]:
        return tuple([getattr(record, name) for name in record._record])

    def _repr(self: Any) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in zip(self._record, _values(self), strict=True))
        return f"{type(self).__qualname__}({fields})"

    def _eq(self: Any, other: object) -> Any:
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def _hash(self: Any) -> int:
        return hash(_values(self))

    def _refuse(self: Any, name: str, *_: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def replace(record: Any, **changes: Any) -> Any:
        return type(record)(**{**dict(zip(record._record, _values(record), strict=True)), **changes})

    def asdict(value: Any) -> Any:
        """Returns a record as a dictionary, and so each record in it."""
        if hasattr(value, "_record"):
            return {name: asdict(getattr(value, name)) for name in value._record}
        if isinstance(value, list | tuple):
            return type(value)(map(asdict, value))
        return {key: asdict(one) for key, one in value.items()} if isinstance(value, dict) else value


__all__ = ["asdict", "dataclass", "field", "replace"]
