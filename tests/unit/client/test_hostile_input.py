"""Documents, files, cache values and named keys: what makes no sense is refused with an error that shows nothing."""

from __future__ import annotations

import io
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope_client import SealedCache, open_document, open_file, seal_document, seal_file
from pg_envelope_client.sealing.bucket import SealedBucket
from tests.vectors.local import local_key
from tests.vectors.placed import Kept

KEY: Any = local_key()
DOCUMENT = {"ssn": "078-05-1120"}
SEALED = seal_document(KEY, DOCUMENT, ["ssn"], "c")
NONE: Any = None
NUMBER: Any = 7
CYCLE: dict[str, Any] = {}
CYCLE["ssn"] = CYCLE
LOST = "\ud800"


def seal(document: Any = None, paths: Any = ("ssn",), context: Any = "c", **options: Any) -> Any:
    return seal_document(KEY, DOCUMENT if document is None else document, paths, context, **options)


def kept(value: Any = "x", name: Any = "a", seconds: Any = None) -> Any:
    SealedCache(Kept(), KEY).set(name, value, seconds)


def file(context: Any = "", **about: Any) -> None:
    seal_file(KEY, io.BytesIO(b"x"), io.BytesIO(), context, **about)


REFUSED: dict[str, Callable[[], object]] = {
    # Each letter would be a path, and the value would stay in the clear.
    "paths are a text": lambda: seal(paths="ssn"),
    "paths are bytes": lambda: seal(paths=b"ssn"),
    "paths are a text, when it is opened": lambda: open_document(KEY, DOCUMENT, "c", paths="ssn"),
    "a path is None": lambda: seal(paths=[None]),
    "a path is a number": lambda: seal(paths=[7]),
    "a path has a number": lambda: seal({"a": [1]}, [("a", 0)]),
    "a path is empty": lambda: seal(paths=[""]),
    "another way to bind": lambda: seal(bind="row"),
    "another way to bind, when it is opened": lambda: open_document(KEY, SEALED, "c", bind="documents"),  # type: ignore[arg-type]
    "another layout": lambda: seal(layout="short"),
    "a list": lambda: seal([1], ["0"]),
    "a text": lambda: seal("text", ["0"]),
    "a list, when it is opened": lambda: open_document(KEY, [SEALED], "c"),  # type: ignore[arg-type]
    "the document looks sealed": lambda: seal({"$envelope": "x"}),
    "a number of many digits": lambda: seal({"ssn": 10**5000}),
    "a cycle": lambda: seal(CYCLE),
    "a cycle that is walked": lambda: seal(CYCLE, ["x"]),
    "a name that is no UTF-8": lambda: seal({LOST: 1}, ["*"]),
    "a context that is no UTF-8": lambda: seal(context=LOST),
    "a context that is None": lambda: seal(context=None),
    "a context that is bytes": lambda: seal(context=b"c"),
    "a context with the byte 00": lambda: seal(context="\0"),
    "a file's context is None": lambda: file(None),
    "a file's context is a number": lambda: file(7),
    "a file's context is no UTF-8": lambda: file(LOST),
    "a file's name is a number": lambda: file(name=7),
    "a file's name is bytes": lambda: file(name=b"x"),
    "a file's type is a list": lambda: file(media_type=[]),
    "a file's name has the byte 00": lambda: file(name="a\0b"),
    "a cache value is None": lambda: kept(None),
    "a cache value is a number": lambda: kept(7),
    "a cache name is no UTF-8": lambda: kept(name=LOST),
    "the name of an object is None": lambda: SealedBucket(None, "bucket", KEY).write(NONE, io.BytesIO()),
    "the name of a bucket is a number": lambda: SealedBucket(None, NUMBER, KEY).write("x", io.BytesIO()),
    "kept for ever": lambda: kept(seconds=math.inf),
    "kept for no number": lambda: kept(seconds=math.nan),
    "kept for no time": lambda: kept(seconds=0),
    "kept for less": lambda: kept(seconds=-1),
    "kept too long": lambda: kept(seconds=1e300),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused(what: str) -> None:
    with pytest.raises(errors.BadInput) as refused:
        pytest.fail(f"gave {REFUSED[what]()}")
    assert DOCUMENT["ssn"] not in str(vars(refused.value))


NO_ENVELOPES = st.text(max_size=9) | st.integers() | st.floats() | st.lists(st.integers(0, 255), max_size=60)


@given(NO_ENVELOPES)
def test_what_is_no_bytes_is_no_envelope(found: Any) -> None:
    for call in (KEY.open, KEY.open_bytes):
        with pytest.raises(errors.InvalidEnvelope):
            call(found)


def test_a_number_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(errors.InvalidEnvelope):
            KEY.open(100_000_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_document_that_looks_sealed_does_not_open() -> None:
    for document in ({"$envelope": "x"}, SEALED["ssn"]):
        with pytest.raises(errors.InvalidEnvelope):
            open_document(KEY, document, "c")


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner), max_leaves=4))
def test_any_paths_seal_the_member_or_are_refused(paths: Any) -> None:
    """A plain value is left only where no path names it."""
    try:
        found = seal(paths=paths)
    except (errors.BadInput, TypeError):
        return
    named = [tuple(path.split(".")) if isinstance(path, str) else tuple(path) for path in paths]
    assert (found == DOCUMENT) is not any(path in (("ssn",), ("*",)) for path in named)


@given(st.text(max_size=5), st.text(max_size=5))
def test_a_file_opens_under_its_context_only(one: str, other: str) -> None:
    target = io.BytesIO()
    try:
        seal_file(KEY, io.BytesIO(b"x"), target, one)
        open_file(KEY, io.BytesIO(target.getvalue()), io.BytesIO(), other)
    except errors.EnvelopeError:
        assert one != other or "\0" in one
    else:
        assert one == other
