"""The stand-in for `dataclasses`: records must be as those of the library."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import records
from pg_envelope.records import dataclass, field

NAMES = ("a", "b", "c", "d")
VALUES = st.one_of(st.integers(0, 3), st.text(max_size=2), st.tuples(st.integers(0, 2)), st.lists(st.integers(0, 2)))
# For a field: no default, a default, or a default that is made anew.
DEFAULTS = st.sampled_from(["none", "value", "made"])
ARGUMENTS = st.tuples(st.lists(VALUES, max_size=5), st.dictionaries(st.sampled_from([*NAMES, "e"]), VALUES))
Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Place:
    """A record that is compared by its fields alone."""

    x: int
    names: list[str] = field(default_factory=list)
    kind: ClassVar[str] = "place"

    @cached_property
    def double(self) -> int:
        return 2 * self.x


@st.composite
def fields(draw: st.DrawFn) -> Fields:
    """Fields of a class; those without a default come first."""
    defaults = draw(st.lists(DEFAULTS, max_size=len(NAMES)))
    return list(zip(NAMES, sorted(defaults, key=lambda default: default != "none"), strict=False))


def made(library: Any, own: Fields, inherited: Fields, *, frozen: bool) -> Any:
    """A class of these fields, by one library or the other."""
    base = _class(library, inherited, (), frozen)
    return _class(library, own, (base,), frozen)


def _class(library: Any, own: Fields, bases: tuple[type, ...], frozen: bool) -> Any:
    body: dict[str, Any] = {"__annotations__": {name: "Any" for name, _ in own}, "__module__": __name__}
    for name, default in own:
        if default != "none":
            body[name] = 7 if default == "value" else library.field(default_factory=list)
    return library.dataclass(frozen=frozen)(type("Thing", bases, body))


def outcome(act: Callable[[], Any]) -> Any:
    """What an act gives, as a text that says all of it, or the kind of its error."""
    try:
        return repr(act())
    except (TypeError, AttributeError) as error:
        return AttributeError if isinstance(error, AttributeError) else TypeError


@given(data=st.data(), frozen=st.booleans(), arguments=ARGUMENTS, others=ARGUMENTS)
def test_a_record_is_as_the_library_s(data: st.DataObject, frozen: bool, arguments: Any, others: Any) -> None:
    shape = data.draw(fields())
    split = data.draw(st.integers(0, len(shape)))
    ours, theirs = (made(library, shape[split:], shape[:split], frozen=frozen) for library in (records, dataclasses))
    assert ours.__match_args__ == theirs.__match_args__
    assert outcome(lambda: ours(*arguments[0], **arguments[1])) == outcome(
        lambda: theirs(*arguments[0], **arguments[1])
    )
    try:
        both = [
            (made(*arguments[0], **arguments[1]), library) for made, library in ((ours, records), (theirs, dataclasses))
        ]
    except TypeError:
        return
    change = dict.fromkeys(others[1], 5)
    answers = [
        [
            outcome(lambda one=one, library=library: library.asdict(one)),
            outcome(lambda one=one, library=library: library.replace(one, **change)),
            outcome(lambda one=one: hash(one)),
            one == copy.deepcopy(one),
            one == object(),
            one != type(one)(*arguments[0], **arguments[1]),
            outcome(lambda one=one: setattr(one, "a", 9)),
            outcome(lambda one=one: delattr(one, "b")),
            sorted(vars(one)),
        ]
        for one, library in both
    ]
    assert answers[0] == answers[1]


def test_records_of_different_classes_differ() -> None:
    one, other = (made(records, [("a", "none")], [], frozen=True)(1) for _ in range(2))
    assert one != other
    assert one == type(one)(1)


def test_what_is_kept_beside_the_fields_does_not_count() -> None:
    place = Place(4)
    assert place.double == 8
    assert place == Place(4)
    assert pickle.loads(pickle.dumps(place)) == place
    assert records.asdict(place) == {"x": 4, "names": []}
    assert records.replace(place, x=5).double == 10


def test_a_default_is_made_for_each_record() -> None:
    Place(1).names.append("one")
    assert Place(1).names == []


def test_a_class_keeps_the_methods_that_it_has() -> None:
    class Quiet:
        secret: str

        def __repr__(self) -> str:
            return "quiet"

    assert repr(records.dataclass(frozen=True)(Quiet)("hush")) == "quiet"


def test_records_within_records_become_dictionaries() -> None:
    inner = Place(1, ["n"])
    outer = made(records, [("a", "none"), ("b", "none"), ("c", "none")], [], frozen=True)(
        inner, (inner,), {"k": [inner]}
    )
    told = {"x": 1, "names": ["n"]}
    assert records.asdict(outer) == {"a": told, "b": (told,), "c": {"k": [told]}}


def test_a_record_keeps_its_fields() -> None:
    with pytest.raises(AttributeError):
        Place(1).x = 2  # type: ignore[misc]
