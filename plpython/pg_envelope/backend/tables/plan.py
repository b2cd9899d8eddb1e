"""Tells what protect() would do with a table: locks, statements, dependents, time, and what will be different.

It makes no key, asks no broker and leaves nothing behind. For a moment it holds the locks that protect() takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from pg_envelope.backend.host import Host, Row, Undone
from pg_envelope.backend.sqltext import NIL_UUID
from pg_envelope.backend.tables import bodies, dependents, heaps, mentions, protect
from pg_envelope.backend.tables.dependents.in_place import InPlace
from pg_envelope.backend.tables.dependents.made_again import MaterializedView
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.options import ProtectArguments, Scoping
from pg_envelope.backend.tables.prepare import Prepared, prepare
from pg_envelope.backend.tables.together import detach

SIZE = f"""
SELECT pg_size_pretty(coalesce(sum(pg_table_size(c.oid)), 0)) AS size,
    CASE WHEN bool_or(c.reltuples < 0) THEN -1 ELSE coalesce(sum(c.reltuples), 0)::bigint END AS rows,
    (SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = $1::oid) AS indexes
FROM pg_catalog.pg_class c WHERE c.oid IN ({heaps.of("$1::oid")})"""
COUNTED = "SELECT count(*) AS rows FROM {}"
PUBLICATIONS = """
SELECT publication FROM envelope_private.published WHERE relation = $1::oid::regclass ORDER BY 1"""
# docs/costs.md has the first, on one core without other load. The others are rough, for a row that is written again and
# for each of its indexes.
PER_VALUE, PER_ROW, PER_INDEX = 4e-6, 2e-6, 1e-6


def plan(host: Host, oid: int, asked: ProtectArguments) -> list[Row]:
    """Returns rows of `step`, `object` and `detail`. Raises what prepare() raises; obstacles are rows."""
    found: list[Row] = []
    try:
        with host.subtransaction():
            by_oid, references = detach(host, {oid: asked})
            prepared = prepare(host, oid, by_oid[oid])
            found += _rows(host, prepared, asked.scoping)
            found += [_row("difference", key.name, "becomes a foreign key of tokens") for key in references]
            # The locks end with the subtransaction.
            raise Undone
    except Undone:
        return found


def tell(host: Host, rows: list[Row]) -> None:
    """Prints a plan as notices."""
    for row in rows:
        host.notice(f"{row['step']}: {row['object']}: {row['detail']}")


def _rows(host: Host, prepared: Prepared, scoping: Scoping) -> Iterator[Row]:
    table = prepared.table
    fields = dict.fromkeys(prepared.wanted, NIL_UUID)
    layout = protect.layout_for(table, NIL_UUID, prepared.wanted, fields, scoping)
    for obstacle in prepared.obstacles:
        yield _row("obstacle", obstacle.column or table.sql, obstacle.text)
    for relation in prepared.locked:
        yield _row("lock", relation, "ACCESS EXCLUSIVE")
    yield from _sizes(host, prepared)
    yield from _statements(prepared, layout)
    for follower in prepared.followers:
        kept = isinstance(follower, InPlace)
        yield _row("dependent", follower.what, "gets its text again, in place" if kept else "is dropped and made again")
    yield from _differences(host, prepared, layout)


def _sizes(host: Host, prepared: Prepared) -> Iterator[Row]:
    (size,) = host.rows(SIZE, ["oid"], [prepared.table.oid])
    rows = size["rows"]
    # Nobody has counted them yet.
    if rows < 0:
        (counted,) = host.once(COUNTED.format(prepared.table.sql))
        rows = counted["rows"]
    yield _row("rows", prepared.table.sql, f"{rows:,}")
    yield _row("bytes", prepared.table.sql, f"{size['size']} are written again, and all indexes")
    seconds = rows * (len(prepared.wanted) * PER_VALUE + PER_ROW + size["indexes"] * PER_INDEX)
    yield _row("time", prepared.table.sql, f"about {seconds:.1f} s under the locks, and more on a busy server")


def _statements(prepared: Prepared, layout: Layout) -> Iterator[Row]:
    table = prepared.table
    for follower in reversed(prepared.followers):
        yield _row("statement", follower.what, follower.leaves)
    for index in [*prepared.carried, *prepared.dropped]:
        yield _row("statement", index.name, index.drop(table.schema, table.sql))
    for statement in (protect.loosened, protect.sealed, protect.settled, protect.renamed):
        yield _row("statement", table.sql, statement(table, layout))
    yield _row("statement", layout.view, f"CREATE VIEW {layout.view} AS SELECT ... FROM {layout.base}")
    for follower in prepared.followers:
        yield _row("statement", follower.what, follower.text)


def _differences(host: Host, prepared: Prepared, layout: Layout) -> Iterator[Row]:
    """Yields what people may notice. What holds for every protected table stands in docs/protected-tables.md."""
    for index in prepared.carried:
        yield _row("difference", index.name, "becomes an index of tokens: queries name the search column")
    for search in chain.from_iterable(options.search for options in prepared.wanted.values()):
        yield _row("difference", search.name, "is one more column, the last one, in SELECT * and in whole rows")
    for one in prepared.dropped:
        yield _row("difference", one.name, "is dropped; unprotect() puts it back")
    for follower in prepared.followers:
        if isinstance(follower, MaterializedView) and follower.is_populated:
            yield _row("difference", follower.what, "is computed anew")
    for reader in dependents.readers_as_owner(prepared.followers) if layout.by_role else []:
        yield _row("difference", reader, "shows the rows of who asks, not those of its owner")
    for row in host.rows(PUBLICATIONS, ["oid"], [prepared.table.oid]):
        yield _row("difference", f"publication {row['publication']}", f"sends {layout.base}")
    for line in bodies.differences(host, prepared.table.oid, layout):
        trigger, _, text = line.partition(": ")
        yield _row("difference", f"trigger {trigger}", text)
    for line in mentions.functions(host, layout):
        function, _, text = line.partition(": ")
        yield _row("difference", f"function {function}", text or f"uses the view, as it names {layout.view}")


def _row(step: str, of: str, detail: str) -> Row:
    return {"step": step, "object": of, "detail": detail}
