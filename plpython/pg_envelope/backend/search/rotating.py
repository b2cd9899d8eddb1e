"""rotate_search(): a search column gets another key, or another normaliser, while it is searched.

Its tokens are made anew in a second column, which every write fills, too. When no transaction can see a row without its
new token, both columns exchange their places in one transaction: a search compares either old tokens or new ones.
Columns that share the search key change together.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import errors
from pg_envelope.backend.commits import begin
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.walker import Pace, check
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.search import advice, place, protecting, references, token_indexes
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.search.filling import fill
from pg_envelope.backend.search.functions import settle
from pg_envelope.backend.search.normalize import newest
from pg_envelope.backend.search.options import SearchWanted
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import derived_name, ident
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.normalizers import EXACT, kind_of
from pg_envelope.records import dataclass, replace

WHAT = "rotate_search"
USES = """
SELECT k.base::oid AS base, s.attname FROM envelope_private.search s
JOIN envelope_private.field f USING (field_uuid) JOIN envelope_private.key k USING (key_uuid)
WHERE s.search_uuid = $1 AND k.base IS NOT NULL ORDER BY k.base::oid, s.attname"""
TAKE_PLACE = """
UPDATE envelope_private.search SET attname = replaces, is_filled = true, replaces = NULL
WHERE field_uuid = $1 AND attname = $2"""


@dataclass(frozen=True)
class Use:
    """A column of tokens of the key."""

    place: Place
    search: SearchColumn

    @property
    def field_uuid(self) -> str:
        return self.place.layout.protected[self.search.source].field_uuid


def rotate_search(
    host: Host, keys: Keys, oid: int, column: str | None, name: str | None, normalize: str | None, pace: Pace
) -> None:
    """Commits as it goes; called again, it goes on.

    Raises BadInput, NotProtected, NotConfigured, Unsupported, Duplicate.
    """
    check(pace)
    begin(host, WHAT)
    found = place.find(host, oid)
    search = found.search(column, name)
    made = place.replacing(found, search)
    normalizer = settle(host, newest(normalize or (made or search).normalizer.split("/")[0]))
    if (kind := kind_of(search.normalizer)) != kind_of(normalizer):
        raise errors.BadInput(
            f"a search column of {kind} cannot become one of {kind_of(normalizer)}", hint="Drop it, and add the other."
        )
    if made is None:
        search_uuid = _start(host, keys, search, normalizer)
        host.commit()
    else:
        search_uuid = made.search_uuid
        _refuse_other(made, normalizer)
    for base in dict.fromkeys(use.place.oid for use in _uses(host, search_uuid)):
        fill(host, base, pace, search_uuid)
    _exchange(host, search.search_uuid, search_uuid)
    host.commit()
    host.notice(f"search column {search.name} of {found.layout.view} has new tokens, by {normalizer}")


def _refuse_other(made: SearchColumn, normalizer: str) -> None:
    if made.normalizer != normalizer:
        raise errors.NotConfigured(
            f"an earlier call began to make tokens by {made.normalizer}",
            hint="Call it with that again, or give up: CALL envelope.drop_search(...).",
        )


def _uses(host: Host, search_uuid: str) -> list[Use]:
    rows = host.rows(USES, ["uuid"], [search_uuid])
    places = {base: place.find(host, base) for base in dict.fromkeys(row["base"] for row in rows)}
    every = [(found, search) for found in places.values() for search in found.layout.searches.values()]
    return [Use(found, search) for found, search in every if search.search_uuid == search_uuid]


def _places(uses: list[Use]) -> list[Place]:
    return list({use.place.oid: use.place for use in uses}.values())


def _start(host: Host, keys: Keys, search: SearchColumn, normalizer: str) -> str:
    """Makes the new key, and a column for it in each table. Returns the key's field."""
    uses = _uses(host, search.search_uuid)
    for use in uses:
        place.refuse(use.place, WHAT, list(_obstacles(host, use, normalizer)))
    key = search_keys.key_of(host, search.search_uuid)
    search_uuid = search_keys.new_key(keys, search_keys.free_name(host, key.name), key.origin)
    made = replace(search, search_uuid=search_uuid, normalizer=normalizer)
    search_keys.record_key(host, made, None, uses[0].place.layout.schema)
    place.lock(host, *_places(uses))
    for use in uses:
        place.begin_column(host, use.place, _next(use.search, search_uuid, normalizer))
    _refresh(host, uses)
    return search_uuid


def _next(search: SearchColumn, search_uuid: str, normalizer: str) -> SearchColumn:
    name = token_indexes.temporary_name(search.name)
    new = {"search_uuid": search_uuid, "normalizer": normalizer, "is_filled": False, "replaces": search.name}
    return replace(search, name=name, **new)  # type: ignore[arg-type]


def _obstacles(host: Host, use: Use, normalizer: str) -> Iterator[str]:
    if not use.search.is_filled:
        yield f"search column {use.search.name} is not filled yet: call add_search() again first"
    wanted = SearchWanted(token_indexes.temporary_name(use.search.name), normalizer.split("/")[0])
    wanted = replace(wanted, normalize=normalizer)
    options = {use.search.source: FieldOptions(search=(wanted,))}
    reasons = list(protecting.obstacles(host, use.place.view, options))
    yield from reasons
    # Coarser tokens tell more; those of the same normaliser no more than before.
    if not reasons and normalizer != use.search.normalizer:
        yield from advice.obstacles(host, use.place.view, options)
    if normalizer != EXACT and references.is_compared(host, use.place.base, use.search):
        yield f"a foreign key compares {use.search.name}: it needs normaliser exact"
    yield from token_indexes.obstacles(host, use.place.base, use.search.name)


def _refresh(host: Host, uses: list[Use]) -> None:
    for found in _places(uses):
        refresh(host, found.oid)


def _exchange(host: Host, old_uuid: str, search_uuid: str) -> None:
    """Gives the new columns the places of the old ones. This must be short, because the tables are locked."""
    place.lock(host, *_places(_uses(host, search_uuid)))
    uses = _uses(host, search_uuid)
    compared = references.drop_all(host, [found.base for found in _places(uses)])
    renamed = [name for use in uses for name in _take_place(host, use)]
    search_keys.take_over(host, old_uuid, uses[0].search)
    _refresh(host, uses)
    for use in uses:
        host.run(f"ALTER TABLE {use.place.base.sql} DROP COLUMN {ident(_gone(use))}")
    for statement in renamed:
        host.run(statement)
    for key in compared:
        references.make(host, key)


def _gone(use: Use) -> str:
    return derived_name(use.search.replaces or "", "_pg_envelope_gone")


def _take_place(host: Host, use: Use) -> Iterator[str]:
    """Gives the new column the old one's name. Yields statements that rename its indexes once the old ones are gone."""
    table, name = use.place.base.sql, use.search.replaces or ""
    for index in token_indexes.names(host, use.place.base, name):
        temporary = ident(use.place.layout.schema) + "." + ident(token_indexes.temporary_name(index))
        yield f"ALTER INDEX {temporary} RENAME TO {ident(index)}"
    search_keys.forget(host, use.field_uuid, name)
    host.rows(TAKE_PLACE, ["uuid", "name"], [use.field_uuid, use.search.name])
    host.run(f"ALTER TABLE {table} RENAME COLUMN {ident(name)} TO {ident(_gone(use))}")
    host.run(f"ALTER TABLE {table} RENAME COLUMN {ident(use.search.name)} TO {ident(name)}")


def give_up(host: Host, search_uuid: str) -> None:
    """Drops the columns that were being made. The search columns keep the tokens that they have."""
    uses = _uses(host, search_uuid)
    place.lock(host, *_places(uses))
    for use in uses:
        protecting.drop_searches(host, use.place.base.sql, use.place.layout, [use.search])
    _refresh(host, uses)
    host.notice("the change of search keys is given up; the search columns are as before")
