"""Reads the options of protect() about searching a column: `search`, and `unique`."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import buckets, errors, leaf_paths
from pg_envelope.backend.search.column import default_name
from pg_envelope.backend.search.normalize import newest
from pg_envelope.normalizers import CONTAINS, MATCH, kind_of
from pg_envelope.records import dataclass, replace
from pg_envelope.typed import Any

HINT = (
    'For example: {"email": {"search": "exact", "unique": true}}, or {"email": {"search": {"exact": {"normalize":'
    ' "email"}}}}, {"name": {"search": "match"}}, {"notes": {"search": "contains"}},'
    ' {"born": {"search": {"range": {"bucket": "month"}}}},'
    ' or several: {"card": {"search": ["exact", {"exact": {"normalize": "last4", "as": "card_last4"}}]}}.'
)
WORD, FLAG = (str,), (bool,)
KNOWN: dict[str, dict[str, tuple[type, ...]]] = {
    "exact": {"normalize": WORD, "as": WORD, "key": WORD, "unique": FLAG, "force": FLAG},
    "match": {"as": WORD, "key": WORD, "force": FLAG},
    "contains": {"paths": (list,), "as": WORD, "key": WORD, "force": FLAG},
    "range": {"bucket": (str, int, float), "as": WORD, "key": WORD, "force": FLAG},
}
PARTS = {"match": MATCH, "contains": CONTAINS}
BUCKET = "a range search needs a bucket: day, month or year; for numbers a width such as 1000"


@dataclass(frozen=True)
class SearchWanted:
    """A search column as it was asked for: its name, the normaliser with its version, and the name of a key to share.

    `force`: the column is made even where tokens are as good as the values.
    """

    name: str
    normalize: str = "exact/1"
    key: str | None = None
    unique: bool = False
    force: bool = False


def parse(column: str, given: Any, unique: Any) -> tuple[SearchWanted, ...]:
    """Returns the search columns in the order given. `unique` counts for the first one. Raises BadInput."""
    if type(unique) is not bool:
        raise _bad(column, "unique must be true or false")
    items = given if isinstance(given, list) else [] if given is None else [given]
    if unique and not items:
        items = ["exact"]
    wanted = [_one(column, item) for item in items]
    if unique and (kind := kind_of(wanted[0].normalize)) != "exact":
        raise _bad(column, f"a {kind} search cannot be unique: put an exact one first")
    if unique:
        wanted[0] = replace(wanted[0], unique=True)
    names = [one.name for one in wanted]
    if len(set(names)) < len(names):
        raise _bad(column, 'search columns need different names: {"exact": {"as": "name"}}')
    return tuple(wanted)


def parse_one(column: str, given: Any) -> SearchWanted:
    """Reads the argument of add_search(): one search, "exact" by default. Raises BadInput."""
    return _one(column, "exact" if given is None else given)


def _one(column: str, item: Any) -> SearchWanted:
    (kind, options) = next(_kinds(column, item))
    if kind not in KNOWN:
        raise _bad(column, f"the kind of search must be one of {', '.join(KNOWN)}")
    for name, value in options.items():
        if type(value) not in KNOWN[kind].get(name, ()):
            raise _bad(column, f"options of {kind} are {', '.join(KNOWN[kind])}")
    return SearchWanted(
        name=options.get("as") or default_name(column, "search" if kind == "exact" else kind),
        normalize=_normalize(column, kind, options),
        key=options.get("key"),
        unique=options.get("unique", False),
        force=options.get("force", False),
    )


def _normalize(column: str, kind: str, options: dict[str, Any]) -> str:
    if kind == "range":
        return _range(column, options.get("bucket", ""))
    if "paths" in options:
        return leaf_paths.name_of(options["paths"])
    return PARTS[kind] if kind in PARTS else _equal(column, options.get("normalize", "exact"))


def _equal(column: str, name: str) -> str:
    normalize = newest(name)
    if (kind := kind_of(normalize)) != "exact":
        raise _bad(column, f"{kind} is a kind of search, and no normaliser")
    return normalize


def _range(column: str, bucket: str | int | float) -> str:
    normalize = f"range-{buckets.width(bucket)}/1"
    if not buckets.named(normalize):
        raise _bad(column, BUCKET)
    return normalize


def _kinds(column: str, item: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(item, str):
        yield item, {}
    if not isinstance(item, dict) or len(item) != 1:
        raise _bad(column, "search must be a word, an object with one member, or a list of these")
    ((kind, options),) = item.items()
    if not isinstance(options, dict):
        raise _bad(column, "the options of a search must be an object")
    yield kind, options


def _bad(column: str, what: str) -> errors.BadInput:
    return errors.BadInput(f"column {column}: {what}", hint=HINT)
