"""Decides which foreign keys become ones of tokens when tables are protected together, and what shares a search key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pg_envelope.backend.host import Host
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.column import REFERENCE, default_name, plain_type
from pg_envelope.backend.search.options import SearchWanted
from pg_envelope.backend.search.references import ForeignKey
from pg_envelope.backend.sqltext import derived_name
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.options import ProtectArguments
from pg_envelope.normalizers import EXACT

Field = tuple[int, str]
Asked = Mapping[int, ProtectArguments]
# The actions that change the referencing row: cascade, set NULL, set default.
WRITING_UPDATES, WRITING_DELETES = "cnd", "nd"


def between(found: Sequence[ForeignKey], asked: Asked) -> list[ForeignKey]:
    """Returns the foreign keys that compare columns which are to be protected on both sides, and no others."""
    return [key for key in found if _protects(key, asked)]


def _protects(key: ForeignKey, asked: Asked) -> bool:
    pairs = [(_is_wanted(one, asked), _is_wanted(other, asked)) for one, other in key.pairs()]
    return any(one for one, _ in pairs) and all(one == other for one, other in pairs)


def _is_wanted(field: Field, asked: Asked) -> bool:
    return field[0] in asked and field[1] in asked[field[0]].wanted


def _compared(key: ForeignKey, asked: Asked) -> list[tuple[Field, Field]]:
    return [pair for pair in key.pairs() if _is_wanted(pair[0], asked)]


def obstacles(key: ForeignKey, asked: Asked, tables: Mapping[int, Table]) -> Iterator[str]:
    """Yields the reasons why tokens cannot stand in for the values of a foreign key."""
    what = f"foreign key {key.name}"
    if key.rest is None:
        yield f"{what} compares more than equal values"
    if key.updates in WRITING_UPDATES or key.deletes in WRITING_DELETES:
        yield f"{what} would write a token without its value: only ON DELETE CASCADE, NO ACTION and RESTRICT do not"
    if any(asked[oid].scoping.kind != "table" for oid in (key.table, key.target)):
        yield f"{what} is of tokens, which an erasure clears: it needs scope => 'table'"
    one, other = tables[key.table], tables[key.target]
    if (one.schema, one.owner_oid) != (other.schema, other.owner_oid):
        yield f"{what} joins tables of two schemas or owners, which cannot share a search key"
    for pair in _compared(key, asked):
        yield from (f"{what}: {reason}" for reason in _pair_obstacles(pair, asked, tables))


def _pair_obstacles(pair: tuple[Field, Field], asked: Asked, tables: Mapping[int, Table]) -> Iterator[str]:
    kinds = [plain_type(column) for oid, name in pair if (column := tables[oid].column(name)) is not None]
    if len(set(kinds)) > 1:
        yield f"columns {pair[0][1]} and {pair[1][1]} have types that take different values for equal"
    for field in pair:
        reference = derived_name(_search_name(field, asked), REFERENCE)
        if tables[field[0]].column(reference):
            yield f"the name of a column is taken: {reference}"
        if asked[field[0]].wanted[field[1]].search and not _exact(field, asked):
            yield f'column {field[1]} needs the search "exact", too'


def _exact(field: Field, asked: Asked) -> list[SearchWanted]:
    return [search for search in asked[field[0]].wanted[field[1]].search if search.normalize == EXACT]


def _search_name(field: Field, asked: Asked) -> str:
    return next((search.name for search in _exact(field, asked)), default_name(field[1]))


def key_names(
    host: Host, found: Sequence[ForeignKey], asked: Asked, tables: Mapping[int, Table]
) -> tuple[dict[Field, str], list[str]]:
    """Returns the name of the search key of each column that foreign keys compare, and what is wrong with the names."""
    names: dict[Field, str] = {}
    wrong = []
    for group in _groups([set(pair) for key in found for pair in _compared(key, asked)]):
        given = sorted({search.key for field in group for search in _exact(field, asked)[:1] if search.key})
        if len(given) > 1:
            wrong.append(f"columns that foreign keys compare need one search key, not {' and '.join(given)}")
        chosen = given[0] if given else _new_name(host, group, found, tables)
        names |= dict.fromkeys(group, chosen)
    return names, wrong


def _new_name(host: Host, group: set[Field], found: Sequence[ForeignKey], tables: Mapping[int, Table]) -> str:
    """Returns a name after the column that the others refer to."""
    oid, name = min(other for key in found for _, other in key.pairs() if other in group)
    return search_keys.free_name(host, f"search {tables[oid].schema}.{tables[oid].name}.{default_name(name)}")


def _groups(pairs: Sequence[set[Field]]) -> list[set[Field]]:
    groups: list[set[Field]] = []
    for pair in pairs:
        joined = [group for group in groups if group & pair]
        groups = [group for group in groups if group not in joined] + [pair.union(*joined)]
    return groups
