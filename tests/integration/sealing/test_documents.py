"""Documents with sealed members: what comes back, where it opens, and what is refused."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pg_envelope import errors
from pg_envelope_client import open_document, seal_document
from pg_envelope_client.sealing import plain
from tests.integration.sealing.fix_door import DoorOfTests
from tests.vectors.local import local_key

PATHS = ["ssn", "medical.history", "cards.*.pan", ("odd.name", "a/b~c")]
LAYOUTS = ["compact", "parts", "record"]
DOCUMENT: dict[str, Any] = {
    "name": "Ada",
    "ssn": "078-05-1120",
    "medical": {"history": [{"when": dt.date(2026, 1, 2), "dose": Decimal("1.50")}], "ward": 7},
    "cards": [{"pan": "4111", "type": "visa"}, {"pan": None}, {"type": "none"}],
    "odd.name": {"a/b~c": b"\x00\xff"},
    "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
}


KEY = local_key()


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_a_real_key_in_a_real_table(door: DoorOfTests, layout: Any) -> None:
    db = door.db
    db.sql("SELECT envelope.create_key('crm'); CREATE TABLE person (id text PRIMARY KEY, doc jsonb)")
    door.allow(db.one("SELECT envelope.grant_client_key('crm', 'alice')"))
    key = door.client().named("crm")
    document = {name: value for name, value in DOCUMENT.items() if name != "when"}
    sealed = seal_document(key, document, PATHS, "person/7", layout=layout)
    db.sql("INSERT INTO person VALUES ('7', %s)", Jsonb(sealed))
    (stored,) = db.sql("SELECT doc FROM person")[0]
    assert open_document(key, stored, "person/7", paths=PATHS) == document
    for secret in ("078-05", "4111", "dose"):
        assert secret not in json.dumps(stored)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bind", ["path", "document"])
@pytest.mark.parametrize(("suite", "padded"), [(1, False), (2, True), (3, False), (4, False), (5, True)])
def test_what_is_sealed_comes_back(layout: Any, bind: Any, suite: int, padded: bool) -> None:
    key, before = local_key(suite, padded), copy.deepcopy(DOCUMENT)
    sealed = seal_document(key, DOCUMENT, PATHS, "7", layout=layout, bind=bind)
    assert before == DOCUMENT, "the document itself is not changed"
    assert (sealed["name"], sealed["medical"]["ward"], sealed["cards"][1]) == ("Ada", 7, {"pan": None})
    assert not {"078-05-1120", "4111", b"\x00\xff"} & {leaf for leaf in leaves(sealed) if isinstance(leaf, str | bytes)}
    assert seal_document(key, sealed, PATHS, "7", layout=layout, bind=bind) == sealed, "twice is once"
    assert open_document(key, sealed, "7", paths=PATHS, bind=bind) == DOCUMENT
    with pytest.raises(errors.InvalidEnvelope):
        open_document(key, sealed, "8", bind=bind)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_value_opens_in_its_place_only(layout: Any) -> None:
    document = {"a": {"x": "1", "y": "2"}, "b": ["3", "4"]}
    sealed = seal_document(KEY, document, ["a.*", "b.*"], "7", layout=layout)
    sealed["a"]["x"], sealed["a"]["y"] = sealed["a"]["y"], sealed["a"]["x"]
    with pytest.raises(errors.InvalidEnvelope):
        open_document(KEY, sealed, "7")
    free = seal_document(KEY, document, ["a.*", "b.*"], "7", layout=layout, bind="document")
    free["b"].reverse()
    assert open_document(KEY, free, "7", bind="document")["b"] == ["4", "3"]


def test_a_plain_value_in_a_sealed_place_is_refused() -> None:
    sealed = seal_document(KEY, DOCUMENT, PATHS, "7")
    forged = {**sealed, "ssn": "000-00-0000"}
    assert open_document(KEY, forged, "7")["ssn"] == "000-00-0000", "nobody said that it must be sealed"
    with pytest.raises(errors.InvalidEnvelope):
        open_document(KEY, forged, "7", paths=PATHS)


LOOKALIKES: list[Any] = [
    {"$envelope": "AAAA"},
    {"__encrypted": True},
    {"__encrypted": False, "x": 1},
    {"ciphertext": "", "iv": "", "tag": "", "keyId": "1", "more": 1},
]


@pytest.mark.parametrize("data", LOOKALIKES)
def test_data_that_looks_like_a_sealed_value_is_refused(data: Any) -> None:
    for document in ({"x": data}, {"ssn": data}, {"list": [data]}, {"ssn": {"in": [data]}}):
        with pytest.raises(errors.BadInput):
            seal_document(KEY, document, ["ssn"], "7")
    with pytest.raises(errors.InvalidEnvelope):
        open_document(KEY, {"x": data}, "7")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_altered_member_is_found_but_those_that_say_nothing(layout: Any) -> None:
    """`salt` and `encryptedAt` are not authenticated, and nothing depends on them: FORMAT.md says so."""
    sealed = seal_document(KEY, {"ssn": "078"}, ["ssn"], "7", layout=layout)
    for name, value in sealed["ssn"].items():
        for other in ("AAAA", "", 8, None, False, str(value)[:-4] + "AAA="):
            if other == value:
                continue
            altered = {"ssn": {**sealed["ssn"], name: other}}
            if name in ("salt", "encryptedAt"):
                assert open_document(KEY, altered, "7") == {"ssn": "078"}
            else:
                with pytest.raises(errors.InvalidEnvelope):
                    open_document(KEY, altered, "7")


def without_fold(value: Any) -> Any:
    """ISO 8601 has no place for it."""
    return value.replace(fold=0)


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.times().map(without_fold)
    | st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(without_fold),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
            | st.sampled_from(["$", "$date", "$bytes", "$float"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON_LIKE)
def test_types_are_kept(value: Any) -> None:
    found = plain.read(plain.write(value))
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {"a": {b"x": 1}}, "\ud800", type("Sub", (dt.date,), {})(2026, 1, 2)]
)
def test_what_would_not_come_back_is_refused(value: Any) -> None:
    with pytest.raises(errors.BadInput):
        seal_document(KEY, {"ssn": value}, ["ssn"], "7")


class ObjectId:
    """Stands for a type of a database's driver, such as MongoDB's ObjectId or Firestore's GeoPoint and reference."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a value that is not to be sealed is not looked into")

    __hash__ = object.__hash__


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_of_other_types_that_are_not_sealed_are_the_same_objects(layout: Any) -> None:
    own, point, link = ObjectId("507f1f77"), ObjectId(48.1, 16.3), ObjectId("users", "7")
    kept = {1, 2}, 1j, memoryview(b"x"), float("nan"), object()
    document = {"_id": own, "ssn": "078-05-1120", "at": [{"point": point, "pan": "4111"}], "to": (link,), "kept": kept}
    sealed = seal_document(KEY, document, ["ssn", "at.*.pan", "missing.member"], "7", layout=layout)
    opened = open_document(KEY, sealed, "7", paths=["ssn", "at.*.pan"])
    for found in (sealed, opened):
        assert found["_id"] is own
        assert found["at"][0]["point"] is point
        assert found["to"][0] is link
        assert all(one is other for one, other in zip(found["kept"], kept, strict=True))
    assert (opened["ssn"], opened["at"][0]["pan"]) == ("078-05-1120", "4111")
    assert sealed["ssn"] != "078-05-1120"
    with pytest.raises(errors.BadInput) as refused:
        seal_document(KEY, document, ["_id"], "7", layout=layout)
    assert "507f1f77" not in f"{refused.value} {vars(refused.value)}"


def test_depth_and_paths() -> None:
    deep: Any = "x"
    for _ in range(plain.MOST_DEPTH + 1):
        deep = [deep]
    for document, paths in (({"ssn": deep}, ["ssn"]), ({"other": deep}, ["ssn"]), ({"ssn": 1}, ["ssn..x"]), ({}, [""])):
        with pytest.raises(errors.BadInput):
            seal_document(KEY, document, paths, "7")
    with pytest.raises(errors.BadInput, match="holds a sealed value"):
        seal_document(KEY, {"a": {"b": seal_document(KEY, {"a": {"b": 1}}, ["a.b"], "7")["a"]["b"]}}, ["a"], "7")


def test_an_error_holds_nothing_of_the_document() -> None:
    with pytest.raises(errors.BadInput) as refused:
        seal_document(KEY, {"ssn": {"secret": object(), "078-05-1120": 1}}, ["ssn"], "7")
    assert "078" not in f"{refused.value} {vars(refused.value)}"


def test_a_value_of_the_named_key_is_no_member() -> None:
    """The row key of a member has a form of its own: a value of the same named key does not pass for one."""
    sealed = KEY.seal('"x"', "7")
    assert sealed is not None
    with pytest.raises(errors.InvalidEnvelope):
        open_document(KEY, {"ssn": {"$envelope": base64.b64encode(sealed).decode()}}, "7")
