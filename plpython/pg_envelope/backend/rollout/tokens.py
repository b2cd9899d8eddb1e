"""Gives every row its tokens before protect(online) seals the first value.

So a unique index holds at every moment: that of the values in the clear until each row has its token, then that of the
tokens. Both are there in between. The one that stands in for the other has a temporary name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.walker import Pace
from pg_envelope.backend.rollout.proofs import TOKENS
from pg_envelope.backend.search import carried, place, protecting, stand_ins, token_indexes
from pg_envelope.backend.search.carried import Index
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.search.filling import fill
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import ROW, commas, ident, of_any_row
from pg_envelope.backend.tables import grants, lent, locks
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.generate.expressions import before_as_role
from pg_envelope.backend.tables.generate.search import of_value_as_role
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.records import replace

FILLED = """
UPDATE envelope_private.search s SET is_filled = true FROM envelope_private.field f
WHERE f.field_uuid = s.field_uuid AND f.key_uuid = $1"""


def begin(host: Host, oid: int, wanted: Mapping[str, FieldOptions], made: Mapping[str, SearchColumn]) -> None:
    """Adds empty token columns, which every write fills from now on. The view does not show them yet.

    `made` has their keys: the KMS is not asked while the table is locked.
    """
    at = place.find(host, oid)
    unique = {search.name for options in wanted.values() for search in options.search if search.unique}
    for name, search in made.items():
        place.begin_column(host, at, replace(search, is_filled=False, is_unique=name in unique))
    refresh(host, oid)


def make_at_once(
    host: Host,
    oid: int,
    wanted: Mapping[str, FieldOptions],
    made: Mapping[str, SearchColumn],
    found: Sequence[Index],
) -> None:
    """Makes the tokens of all rows and their indexes, in the transaction that made the view. Raises Duplicate.

    So whoever writes next meets unique tokens of old and new values alike.
    """
    begin(host, oid, wanted, made)
    at = place.find(host, oid)
    if at.layout.searches:
        with protecting.usable(host, at.base):
            AsOwner(host, at.base.owner_oid).run(_filled(at.layout))
            protecting.index(host, at.base, at.layout, wanted, list(found))
        _show(host, at)


def _filled(layout: Layout) -> str:
    """Returns the statement that rewrites the table with the tokens of its old values."""
    actions = (
        f"ALTER {ident(search.name)} TYPE {search.stored} USING {_of_old_value(layout, search)}"
        for search in layout.searches.values()
    )
    return f"ALTER TABLE {layout.base} {commas(actions)}"


def _of_old_value(layout: Layout, search: SearchColumn) -> str:
    value = before_as_role(layout, layout.protected[search.source], ROW)
    return of_any_row(of_value_as_role(layout, search, f"({value})"))


def fill_all(host: Host, oid: int, pace: Pace) -> None:
    """Makes the tokens of all rows, and their indexes. Commits as it goes. Raises Duplicate."""
    found = place.find(host, oid)
    if found.key["rollout"] != TOKENS:
        return
    searches = found.layout.of_rollout().searches.values()
    for search_uuid in dict.fromkeys(search.search_uuid for search in searches):
        fill(host, found.base.oid, pace, search_uuid)
    _index(host, place.find(host, found.base.oid))
    host.commit()


def _index(host: Host, found: Place) -> None:
    """Writes wait meanwhile, as for CREATE INDEX."""
    before, part = stand_ins.of_values(host, found.layout), found.layout.of_rollout()
    unique = {search.name for search in part.searches.values() if search.is_unique}
    made = protecting.of_tokens(part, before)
    wanted = [*map(stand_ins.standing_in, made), *protecting.own_indexes(part, made, unique)]
    there = {name for search in part.searches for name in token_indexes.names(host, found.base, search)}
    with protecting.usable(host, found.base, lent.LONG):
        locks.lock(host, found.base.sql, mode="SHARE")
        for one in (one for one in wanted if one.name not in there):
            carried.create(AsOwner(host, found.base.owner_oid), one, found.base.sql)


def show(host: Host, found: Place) -> None:
    """Drops the indexes of values, which are empty now. Shows the search columns. The view is made anew here."""
    for one in stand_ins.of_values(host, found.layout):
        host.run(stand_ins.standing_in(one).drop(found.layout.schema, found.base.sql))
    _show(host, found)


def _show(host: Host, found: Place) -> None:
    acl = grants.read(host, found.view.oid)
    host.rows(FILLED, ["uuid"], [found.layout.key_uuid])
    refresh(host, found.base.oid)
    protecting.grant(host, place.find(host, found.base.oid).layout, acl, found.layout.of_rollout().searches)
