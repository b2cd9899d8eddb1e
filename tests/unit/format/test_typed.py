"""The stand-in for `typing`: named tuples must be as those of the library."""

from __future__ import annotations

import pickle
from typing import Any
from typing import NamedTuple as Library

import pytest

from pg_envelope import typed
from pg_envelope.typed import NamedTuple


class Ours(NamedTuple):
    """A place."""

    x: int
    y: int = 2

    @property
    def total(self) -> int:
        return self.x + self.y

    def moved(self) -> Ours:
        return self._replace(x=self.x + 1)


class Theirs(Library):
    """What `Ours` is compared with."""

    x: int
    y: int = 2


def test_a_named_tuple_is_as_the_library_s() -> None:
    ours, theirs = Ours(1), Theirs(1)
    assert ours == theirs == (1, 2)
    assert hash(ours) == hash(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert (Ours._fields, Ours._field_defaults) == (Theirs._fields, Theirs._field_defaults)
    assert (ours.total, ours.moved(), type(ours.moved())) == (3, (2, 2), Ours)
    assert (Ours.__doc__, Ours.__module__, Ours.__name__) == ("A place.", __name__, "Ours")
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert not hasattr(ours, "__dict__")


@pytest.mark.parametrize("values", [(), (1, 2, 3)])
def test_a_named_tuple_has_as_many_fields_as_it_declares(values: Any) -> None:
    with pytest.raises(TypeError):
        Ours(*values)


def test_a_value_keeps_its_fields() -> None:
    with pytest.raises(AttributeError):
        Ours(1).x = 2  # type: ignore[misc]


def test_a_cast_returns_its_value() -> None:
    value = object()
    assert typed.cast(int, value) is value
