"""The requests of the protocol: FORMAT.md's tables say what the classes declare, and only that is read."""

from __future__ import annotations

import base64
import re
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors, wire
from pg_envelope.broker.requests import messages, objects, reading
from pg_envelope.broker.requests.reading import Base64, Count, Flag, Integer, Object, Text, Uuid, members, read

FORMAT = (Path(__file__).parents[3] / "FORMAT.md").read_text()
REQUESTS = [(op, kind) for op, kinds in messages.OPERATIONS.items() for kind in kinds]
OBJECTS = [
    objects.FieldRef,
    objects.OldestKey,
    objects.PlantedField,
    objects.NamedDek,
    objects.WrappedDek,
    objects.DekRef,
    objects.DekWithFields,
    objects.SealedRef,
    objects.ErasedRef,
    objects.Transition,
]
BAD = [None, True, -1, 1 << 64, 1.5, "\N{SNOWMAN}", "x" * 5000, [], [1], {}, {"x": 1}]


def number(value: int) -> str:
    """2^63 - 1 for what nobody can read otherwise."""
    bits = value.bit_length()
    return f"2^{bits} - 1" if bits > 16 and value == (1 << bits) - 1 else str(value)


def rule(hint: Any) -> str:
    """What FORMAT.md says of a member's values."""
    if is_dataclass(hint):
        return hint.__name__
    if get_origin(hint) is Annotated:
        kind, found = get_args(hint)
        if isinstance(found, Count):
            different = ", all different" if found.different else ""
            return f"[{rule(get_args(kind)[0])}], {found.least} to {found.most} of them{different}"
        return says(found)
    if get_origin(hint) is tuple:
        return f"[{rule(get_args(hint)[0])}]"
    return rule(next(kind for kind in get_args(hint) if kind is not NoneType))


def says(found: Any) -> str:
    match found:
        case Integer():
            return f"{number(found.least)} … {number(found.most)}"
        case Base64():
            return f"{found.length} bytes"
        case Text(pattern=""):
            return "text"
        case Text(pattern=objects.STATE):
            return "state"
        case Text():
            return f"`{found.pattern}`"
        case Uuid():
            return "uuid"
        case Flag():
            return "true or false"
        case Object():
            return "object"
        case messages.look:
            return "text, true or false"
    raise AssertionError(found)


def member(kind: type[Any], one: Any) -> str:
    hint = get_type_hints(kind, include_extras=True)[one.name]
    name = f"`{one.name.removesuffix('_')}`"
    nullable = NoneType in get_args(hint)
    optional = " or null" if nullable and one.default is MISSING else "" if one.default is MISSING else " (optional)"
    return f"{name} {rule(hint)}{optional}"


def row(name: str, kind: type[Any]) -> str:
    return f"| `{name}` | {', '.join(member(kind, one) for one in fields(kind))} |"


@pytest.mark.parametrize(("op", "kind"), REQUESTS, ids=lambda value: getattr(value, "__name__", value))
def test_the_page_has_each_request(op: str, kind: type[Any]) -> None:
    assert row(op, kind) in FORMAT


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_the_page_has_each_object(kind: type[Any]) -> None:
    assert row(kind.__name__, kind) in FORMAT


def test_the_page_has_no_other_request() -> None:
    (table,) = re.findall(r"\| op \| members of the request \|\n.*?\n\n", FORMAT, re.DOTALL)
    assert len(table.strip().splitlines()) == 2 + len(REQUESTS)


def test_the_backend_s_types_are_the_broker_s() -> None:
    """They are declared again there: dataclasses would cost every new connection their import."""
    for ours, theirs in ((wire.Field, objects.FieldRef), (wire.Dek, objects.DekWithFields)):
        assert set(ours.__annotations__) == {one.name for one in members(theirs)}


def values(read: Any) -> st.SearchStrategy[Any]:
    """JSON values that a member takes."""
    if isinstance(read, partial):
        return st.deferred(lambda: _values_of(read))
    match read:
        case Integer():
            return st.integers(read.least, read.most)
        case Base64():
            return st.binary(min_size=read.length, max_size=read.length).map(lambda raw: base64.b64encode(raw).decode())
        case Text(pattern=""):
            return st.text(max_size=20)
        case Text():
            return st.from_regex(read.pattern, fullmatch=True)
        case Uuid():
            return st.uuids().map(str)
        case Flag():
            return st.booleans()
        case Object():
            return st.dictionaries(st.text(max_size=3), st.integers(), max_size=3)
        case messages.look:
            return st.booleans() | st.text(max_size=5)
    raise AssertionError(read)


def _values_of(found: partial[Any]) -> st.SearchStrategy[Any]:
    if found.func is read:
        return bodies(found.args[0])
    kind, count = found.args
    one = values(reading._reader(kind))
    least, most = (count.least, min(count.most, count.least + 3)) if count else (0, 3)
    return st.lists(
        one,
        min_size=least,
        max_size=most,
        unique_by=lambda dek: str(dek.get("dek_id") if isinstance(dek, dict) else dek),
    )


@st.composite
def bodies(draw: st.DrawFn, kind: type[Any]) -> dict[str, Any]:
    """A JSON object that `kind` takes; what is optional is there, null or missing."""
    body: dict[str, Any] = {}
    for one in members(kind):
        optional = one.default is not MISSING
        choice = draw(st.sampled_from(["there", "null", "missing"])) if optional else "there"
        if choice != "missing":
            body[one.name] = draw(values(one.read)) if choice == "there" else None
    return _together(draw, body)


def _together(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """What must be there together, or must not."""
    if "to" in body:
        body = {**body, "dek_id": None, "key_id": draw(st.integers(1, 5))}
    if body.get("subject") is None or body.get("salt") is None:
        body = {name: value for name, value in body.items() if name not in ("subject", "salt") or "deks" not in body}
    if body.get("from_database") is None:
        body.pop("from_environment", None)
    return body


def written(value: Any) -> Any:
    """A value as JSON has it: the way back."""
    if is_dataclass(value):
        return {one.name: written(getattr(value, one.attribute)) for one in members(type(value))}
    if isinstance(value, tuple):
        return [written(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, UUID) else value


def holds(told: Any, given: Any) -> bool:
    """Whether all that was given is told; null is as good as missing."""
    if isinstance(given, dict):
        return all(value is None or holds(told[name], value) for name, value in given.items())
    if isinstance(given, list):
        return len(told) == len(given) and all(map(holds, told, given))
    return bool(told == given)


@pytest.mark.parametrize(("op", "kind"), REQUESTS, ids=lambda value: getattr(value, "__name__", value))
@settings(max_examples=30)
@given(data=st.data())
def test_what_is_declared_is_read_and_nothing_is_lost(op: str, kind: type[Any], data: st.DataObject) -> None:
    body = data.draw(bodies(kind))
    found = read(kind, {**body, "another": 1})
    assert read(kind, written(found)) == found
    assert holds(written(found), body)


@pytest.mark.parametrize(("op", "kind"), REQUESTS, ids=lambda value: getattr(value, "__name__", value))
@settings(max_examples=30)
@given(data=st.data())
def test_what_is_not_declared_is_refused_by_its_name(op: str, kind: type[Any], data: st.DataObject) -> None:
    """Also deep inside a list; the error says nothing of the value."""
    body = data.draw(bodies(kind))
    one = data.draw(st.sampled_from(members(kind)))
    value = data.draw(st.sampled_from(BAD))
    try:
        one.read(value)
    except errors.BadInput:
        pass
    except ValueError:
        if value is not None or one.default is MISSING:
            with pytest.raises(errors.BadInput, match=f"member {one.name} is missing or not valid"):
                read(kind, {**body, one.name: value})
