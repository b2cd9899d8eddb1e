"""The responses of the protocol: FORMAT.md's tables say what `responses` declares, and only that is an answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import responses
from pg_envelope.broker.requests import messages

FORMAT = (Path(__file__).parents[3] / "FORMAT.md").read_text()
ROWS = [(op, members) for op, kinds in responses.RESPONSES.items() for members in kinds]
NAMES = {str: "text", int: "number", float: "number", dict: "object", bool: "true or false", type(None): "null"}
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=5),
    int: st.integers(0, 1 << 40),
    float: st.floats(0, 1e6),
    dict: st.just({"code": "internal"}),
    bool: st.booleans(),
    type(None): st.none(),
}


def rule(kind: Any) -> str:
    """What FORMAT.md says of a member's values."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return f"[{' or '.join(map(rule, kind))}]"
    if isinstance(kind, dict):
        return f"{{name: {rule(kind[str])}}}"
    return " or ".join(dict.fromkeys(NAMES[one] for one in getattr(kind, "__args__", (kind,))))


def row(name: str, members: responses.Members) -> str:
    told = ", ".join(f"`{member}` {rule(kind)}" for member, kind in members.items())
    return f"| `{name}` | {told or '–'} |"


def table(head: str) -> list[str]:
    (found,) = re.findall(rf"\| {re.escape(head)} \|.*?\n\n", FORMAT, re.DOTALL)
    return found.strip().splitlines()[2:]


def test_the_page_has_each_response_and_no_other() -> None:
    assert table("op | members of the response") == [row(op, members) for op, members in ROWS]


def test_the_page_has_each_object_and_no_other() -> None:
    assert table("object of a response | members") == [row(*one) for one in responses.OBJECTS.items()]


def test_each_operation_has_a_response() -> None:
    assert {op: len(kinds) for op, kinds in responses.RESPONSES.items()} == {
        op: len(kinds) for op, kinds in messages.OPERATIONS.items()
    }


def values(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, str):
        return bodies(responses.OBJECTS[kind])
    if isinstance(kind, list):
        return st.lists(st.one_of(*map(values, kind)), max_size=3)
    if isinstance(kind, dict):
        return st.dictionaries(st.text(max_size=3), values(kind[str]), max_size=2)
    return st.one_of(*(VALUES[one] for one in getattr(kind, "__args__", (kind,))))


def bodies(members: responses.Members) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: values(kind) for name, kind in members.items()})


@pytest.mark.parametrize(("op", "members"), ROWS, ids=lambda value: value if isinstance(value, str) else "")
@settings(max_examples=30)
@given(data=st.data())
def test_what_is_declared_fits(op: str, members: responses.Members, data: st.DataObject) -> None:
    assert responses.fits(op, {**data.draw(bodies(members)), "another": 1})


@pytest.mark.parametrize(
    ("op", "members"), [one for one in ROWS if one[1]], ids=lambda value: value if isinstance(value, str) else ""
)
@settings(max_examples=50)
@given(data=st.data())
def test_what_is_not_declared_does_not_fit(op: str, members: responses.Members, data: st.DataObject) -> None:
    """One member is missing or of another kind, or an item of a list is."""
    body = data.draw(bodies(members))
    name = data.draw(st.sampled_from(sorted(members)))
    kind = members[name]
    wrong: list[Any] = [[5.5, None], ("no", "JSON")]
    if isinstance(kind, list):
        wrong += [[None], {"0": 1}, *([] if dict in kind else [[{}]])]
    if kind is int:
        wrong += [True, "1", 1.5]
    body[name] = data.draw(st.sampled_from(wrong))
    assert not responses.fits(op, body)
    if type(None) not in getattr(kind, "__args__", ()):
        del body[name]
        assert not responses.fits(op, body)
