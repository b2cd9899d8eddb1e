"""add_search(): another search column for a protected column, while the table is in use.

First the table gets the token column, and writes fill it. Then the rows of before get their tokens, in batches. The
view shows the column when no transaction can see a row without its token: until then nobody can search by it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import errors
from pg_envelope.backend.commits import begin
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs.walker import Pace, check
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.masks import rules
from pg_envelope.backend.search import advice, place, protecting
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.search.filling import fill
from pg_envelope.backend.search.functions import settle
from pg_envelope.backend.search.options import SearchWanted
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import grants, partitions
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.normalizers import kind_of
from pg_envelope.records import replace

WHAT = "add_search"
EXAMPLES = {"exact": "= '...'", "match": "@> '%...%'", "contains": "@> '{...}'", "range": "<@ '[...,...)'"}
FILLED = "UPDATE envelope_private.search SET is_filled = true WHERE field_uuid = $1 AND attname = $2"


def add_search(host: Host, keys: Keys, oid: int, column: str | None, wanted: SearchWanted, pace: Pace) -> None:
    """Commits as it goes; called again, it goes on. Raises BadInput, NotProtected, Unsupported, Duplicate."""
    check(pace)
    begin(host, WHAT)
    wanted = replace(wanted, normalize=settle(host, wanted.normalize))
    if not _began(place.find(host, oid), column, wanted):
        _start(host, keys, place.find(host, oid), column, wanted)
        host.commit()
    began = place.find(host, oid).layout.searches[wanted.name]
    fill(host, oid, pace, began.search_uuid)
    _show(host, place.find(host, oid), wanted.name)
    host.commit()


def _began(found: Place, column: str | None, wanted: SearchWanted) -> bool:
    """Tells whether an earlier call ended early. Raises NotConfigured if that call had other options."""
    search = found.layout.searches.get(wanted.name)
    if search is None or search.is_filled:
        return False
    if (search.source, search.normalizer, search.is_unique) != (column, wanted.normalize, wanted.unique):
        raise errors.NotConfigured(
            f"search column {wanted.name} is being made of other options",
            hint="Call it with those again, or give up: CALL envelope.drop_search(...).",
        )
    return True


def _start(host: Host, keys: Keys, found: Place, column: str | None, wanted: SearchWanted) -> None:
    source = found.source(column)
    place.refuse(found, WHAT, list(_obstacles(host, found, source.name, wanted)))
    search = search_keys.make(
        host, keys, found.view, source, wanted, search_keys.origin_of(host, found.layout.key_uuid)
    )
    place.lock(host, found)
    place.begin_column(host, found, replace(search, is_filled=False, is_unique=wanted.unique))
    refresh(host, found.oid)


def _obstacles(host: Host, found: Place, column: str, wanted: SearchWanted) -> Iterator[str]:
    options = {column: FieldOptions(search=(wanted,))}
    reasons = [*protecting.obstacles(host, found.view, options), *partitions.unique(found.base, options)]
    if rules.hides(host, found.layout.protected[column]):
        reasons.append(f"column {column} has masks that do not allow searches: docs/masks.md")
    if found.view.column(wanted.name) is None and found.base.column(wanted.name) is not None:
        reasons.append(f"the name of a search column is taken: {wanted.name}")
    yield from reasons or advice.obstacles(host, found.view, options)


def _show(host: Host, found: Place, name: str) -> None:
    """Shows the column in the view. This must be short, because the table is locked."""
    place.lock(host, found)
    search = found.layout.searches[name]
    acl = grants.read(host, found.view.oid)
    host.rows(FILLED, ["uuid", "name"], [found.layout.protected[search.source].field_uuid, name])
    refresh(host, found.oid)
    protecting.grant(host, place.find(host, found.oid).layout, acl, [name])
    host.notice(
        f"search column {name} of {found.layout.view} is ready",
        hint=f"SELECT ... WHERE {ident(name)} {EXAMPLES[kind_of(search.normalizer)]}",
    )
