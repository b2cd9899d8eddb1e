"""Makes search columns in protect(): the options, the obstacles, and the tokens of existing rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.search import carried as carried_indexes
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.carried import Dropped, Index, Part
from pg_envelope.backend.search.column import (
    GRAMS,
    SCHEMA,
    TOKEN,
    SearchColumn,
    default_name,
    is_loose,
    plain_type,
)
from pg_envelope.backend.search.keys import KeyOrigin
from pg_envelope.backend.search.normalize import unfit
from pg_envelope.backend.search.options import SearchWanted
from pg_envelope.backend.sqltext import ROW, commas, derived_name, ident, of_any_row
from pg_envelope.backend.tables import grants, lent, locks
from pg_envelope.backend.tables.dependents.statistics import Statistics
from pg_envelope.backend.tables.generate.layout import Layout
from pg_envelope.backend.tables.generate.search import of_value_as_role
from pg_envelope.backend.tables.generate.writes import GUARDS
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.normalizers import EXACT, kind_of
from pg_envelope.records import replace

# What a role has already is not lent: to take it back would take it away.
LACKED = f"""
SELECT r.what FROM (VALUES
    (has_schema_privilege($1, '{SCHEMA}', 'USAGE'), 'USAGE ON SCHEMA {SCHEMA}'),
    (has_type_privilege($1, '{TOKEN}', 'USAGE'), 'USAGE ON TYPE {TOKEN}'),
    (has_type_privilege($1, '{GRAMS}', 'USAGE'), 'USAGE ON TYPE {GRAMS}'),
    (has_schema_privilege($1, $2::text, 'CREATE'), format('CREATE ON SCHEMA %I', $2))) AS r (may, what)
WHERE NOT r.may"""
# What stands in for lower(column).
LOWERED = ("casefold/1", "email/1")
LOWER = "In the place of lower(), values that differ in case alone are equal, as normaliser casefold has it."
TYPES = "text, varchar, char, citext, numbers, dates and times, uuid, inet, macaddr, bool, bytea, jsonb and enums"


def with_searches(
    wanted: Mapping[str, FieldOptions], carried: Iterable[Index], shared: Mapping[str, str]
) -> dict[str, FieldOptions]:
    """Adds a search for equal values to columns whose indexes and foreign keys are carried over, where no search was
    asked for. `shared` names, by column, the search key that foreign keys need.
    """
    indexed: dict[str, set[str]] = {name: {EXACT} for name in shared}
    for part in (part for index in carried for part in index.parts):
        indexed.setdefault(part.name, set()).add(part.normalize or EXACT)
    added = {
        name: replace(options, search=tuple(_searches(name, sorted(indexed[name], key=EXACT.__ne__))))
        if name in indexed and not options.search
        else options
        for name, options in wanted.items()
    }
    return {name: _sharing(options, shared.get(name)) for name, options in added.items()}


def _sharing(options: FieldOptions, key: str | None) -> FieldOptions:
    """Gives the first search for exactly the values a key that is shared."""
    first = next((number for number, one in enumerate(options.search) if one.normalize == EXACT), None)
    if key is None or first is None:
        return options
    searches = list(options.search)
    searches[first] = replace(searches[first], key=key)
    return replace(options, search=tuple(searches))


def _searches(column: str, normalizers: list[str]) -> Iterator[SearchWanted]:
    """Yields a search for each way in which indexes compare the column. The first one has the usual name."""
    for number, normalize in enumerate(normalizers):
        name = f"{column}_{normalize.split('/')[0]}" if number else default_name(column)
        yield SearchWanted(name, normalize)


def stands_in(index: Index, wanted: Mapping[str, FieldOptions]) -> bool:
    """Tells whether the search columns that were asked for serve an index, too."""
    return all(
        not wanted[part.name].search or any(_serves(s.normalize, part.normalize) for s in wanted[part.name].search)
        for part in index.parts
        if part.name in wanted
    )


def _serves(normalizer: str, wanted: str | None) -> bool:
    return normalizer in LOWERED or (wanted is None and kind_of(normalizer) == "exact")


def obstacles(host: Host, table: Table, wanted: Mapping[str, FieldOptions]) -> Iterator[str]:
    """Yields the reasons why columns cannot be searched, a line each."""
    taken = [column.name for column in table.columns]
    for name, options in wanted.items():
        column = table.column(name)
        if not options.search or column is None:
            continue
        if plain_type(column) is None:
            yield f"column {name} cannot be searched: its type is none of {TYPES}"
        elif is_loose(host, column):
            yield f"column {name} cannot be searched: its collation is nondeterministic, so equal values may differ"
        yield from (f"the name of a search column is taken: {s.name}" for s in options.search if s.name in taken)
        yield from filter(None, (unfit(column, search.normalize) for search in options.search))
        taken += [search.name for search in options.search]


def make(
    host: Host, keys: Keys, table: Table, wanted: Mapping[str, FieldOptions], origin: KeyOrigin
) -> dict[str, SearchColumn]:
    """Makes keys and types. add() makes the columns."""
    made = {}
    for column in table.columns:
        for search in wanted[column.name].search if column.name in wanted else ():
            made[search.name] = search_keys.make(host, keys, table, column, search, origin)
    return made


def add(host: Host, table: Table, searches: Iterable[SearchColumn]) -> None:
    """Adds empty token columns, as the last columns of the table."""
    added = commas(f"ADD COLUMN {ident(search.name)} {search.stored}" for search in searches)
    if added:
        host.run(f"ALTER TABLE {table.sql} {added}")


def filled(layout: Layout) -> list[str]:
    """Returns actions for the ALTER TABLE that seals. Each token is made of the value in the same pass."""
    return [
        f"ALTER {ident(search.name)} TYPE {search.stored} USING"
        f" {of_any_row(of_value_as_role(layout, search, f'{ROW}.{ident(search.source)}'))}"
        for search in layout.searches.values()
    ]


@contextmanager
def usable(host: Host, table: Table, tries: locks.Tries = locks.PATIENT) -> Iterator[None]:
    """Lets the table's owner name the types of tokens and make an index, while statements run its code."""
    lacked = [row["what"] for row in host.rows(LACKED, ["oid", "name"], [table.owner_oid, table.schema])]
    with lent.rights(host, ident(table.owner), lacked, tries):
        yield


def record(host: Host, layout: Layout) -> None:
    for search in layout.searches.values():
        field_uuid = layout.protected[search.source].field_uuid
        search_keys.record(host, field_uuid, layout.column(search.name).attnum, search)


def index(host: Host, table: Table, layout: Layout, wanted: Mapping[str, FieldOptions], carried: list[Index]) -> None:
    """Makes the token indexes: the earlier ones under their names, and one for each search column that has none."""
    unique = {search.name for options in wanted.values() for search in options.search if search.unique}
    made = of_tokens(layout, carried)
    for one in [*made, *own_indexes(layout, made, unique)]:
        carried_indexes.create(AsOwner(host, table.owner_oid), one, layout.base)


def of_tokens(layout: Layout, carried: Iterable[Index]) -> list[Index]:
    """Returns the earlier indexes with search columns in the place of protected ones."""
    chosen = _chosen(layout)
    return [index.of_tokens(chosen) for index in carried]


def own_indexes(layout: Layout, made: list[Index], unique: set[str]) -> list[Index]:
    """Returns an index for each search column that those which are `made` do not serve."""
    led = {index.parts[0].name for index in made if index.predicate is None}
    return [
        own_index(layout, search, search.name in unique)
        for search in layout.searches.values()
        if search.name not in led or search.name in unique - _alone(made)
    ]


def _alone(indexes: Iterable[Index]) -> set[str]:
    """Returns the search columns that have a unique index of their own already."""
    return {i.parts[0].name for i in indexes if i.is_unique and len(i.parts) == 1 and i.predicate is None}


def _chosen(layout: Layout) -> dict[tuple[str, str | None], tuple[str, str]]:
    """Returns, for each protected column, the search column that stands in for it: the exact one, or the first.

    For lower() of the column it is the first that ignores case.
    """
    found: dict[tuple[str, str | None], SearchColumn] = {}
    equal = [search for search in layout.searches.values() if not search.has_grams]
    for search in sorted(equal, key=lambda search: search.normalizer != EXACT):
        found.setdefault((search.source, None), search)
        if search.normalizer in LOWERED:
            found.setdefault((search.source, "casefold/1"), search)
    return {key: (search.name, search.opclass) for key, search in found.items()}


def own_index(layout: Layout, search: SearchColumn, is_unique: bool) -> Index:
    name = derived_name(f"{layout.view_name}_{search.name}", "_key" if is_unique else "_idx")
    return Index(name, (Part(search.name, 0, search.opclass),), is_unique=is_unique, method=_method(search))


def _method(search: SearchColumn) -> str:
    return "gin" if search.has_grams else "btree"


def grant(host: Host, layout: Layout, acl: Iterable[Row], only: Iterable[str] | None = None) -> None:
    """Lets roles that may read single columns search them, too.

    Rights to the whole table hold for all of its columns.
    """
    names = set(layout.searches if only is None else only)
    for row in acl:
        for search in layout.searches_of(row["column"]) if row["privilege"] == "SELECT" and row["column"] else ():
            if search.name not in names:
                continue
            option = " WITH GRANT OPTION" if row["is_grantable"] and row["grantee"] else ""
            host.run(f"GRANT SELECT ({ident(search.name)}) ON {layout.view} TO {grants.role(row['grantee'])}{option}")


def tell(host: Host, layout: Layout, carried: Iterable[Index], about_unique: str | None = None) -> None:
    """Tells by notices which indexes became token indexes. `about_unique` is the detail for unique ones."""
    chosen = _chosen(layout)
    for one in carried:
        made = one.of_tokens(chosen)
        columns = commas(part.name for part in made.parts)
        first = next(new.name for new, old in zip(made.parts, one.parts, strict=True) if new != old)
        kind = "UNIQUE constraint" if one.is_constraint else "unique index" if one.is_unique else "index"
        host.notice(
            f"{kind} {one.name} is a {'unique ' if one.is_unique else ''}token index on ({columns}) now",
            detail=LOWER if any(part.normalize for part in one.parts) else about_unique if one.is_unique else None,
            hint=f"Queries find it by the search column: WHERE {first} = '...'. docs/search.md.",
        )


def tell_dropped(host: Host, dropped: Iterable[Dropped | Statistics]) -> None:
    for one in dropped:
        kind = _kind(one)
        host.notice(f"{kind} {one.name} is dropped", hint="envelope.unprotect() puts it back.")


def _kind(one: Dropped | Statistics) -> str:
    if isinstance(one, Statistics):
        return "statistics object"
    return "constraint" if one.is_constraint else "index"


def drop_columns(host: Host, table: str, layout: Layout) -> None:
    """Removes the token columns for unprotect(), with their indexes, and the types that no other column uses."""
    if layout.searches:
        drop_searches(host, table, layout, list(layout.searches.values()))


def drop_searches(host: Host, table: str, layout: Layout, searches: list[SearchColumn]) -> None:
    """Drops search columns that no view shows any more. The guards hold on to them, until they are made again."""
    for name in GUARDS.values():
        host.run(f"DROP TRIGGER IF EXISTS {ident(name)} ON {table}")
    host.run(f"ALTER TABLE {table} {commas(f'DROP COLUMN {ident(search.name)}' for search in searches)}")
    for search in searches:
        search_keys.forget(host, layout.protected[search.source].field_uuid, search.name)
    search_keys.drop_unused(host, searches)
