"""pg-envelope residue: plaintext of a protected table that is still in files of the server."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output
from pg_envelope_client.commands.options import Dsn, Table
from pg_envelope_client.problems import FAILED, Problem

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession
    from pg_envelope_client.residue.needles import Needles
    from pg_envelope_client.residue.places import ServerFiles
    from pg_envelope_client.residue.search import Hit

SHOWN = ("kind", "place", "column", "times", "values")
Place = tuple[str, str, str]
Found = tuple[Place, bytes, int]
HINT = "docs/after-protecting.md says how to remove plaintext from each of these places."


def residue(
    table: Table,
    values: Annotated[int, typer.Option(min=1, max=10_000, help="How many values of each column to look for.")] = 40,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", exists=True, help="More files or folders, such as a WAL archive; repeatable."),
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Look for plaintext of a protected table in the server's files; exit code 1 if some is there."""
    from pg_envelope_client.database import session
    from pg_envelope_client.residue import queries
    from pg_envelope_client.residue.needles import sampled
    from pg_envelope_client.residue.places import ServerFiles
    from pg_envelope_client.residue.search import search

    with session(dsn) as server:
        places = ServerFiles.of(server)
        needles = sampled(server, table, values)
        server.run(queries.plant(needles.control.decode()))
        server.run(queries.CHECKPOINT)
        searched = search(needles.all, [*places.roots, *(path.resolve() for path in also or ())])
        _check_controls(needles, searched.hits)
        found = [*_in_files(needles, places, searched.hits), *_in_statements(needles, server)]
    rows = _counted(found)
    output.print_rows(rows, SHOWN, "No value was found.")
    _say_what_was_not_seen(needles, searched.unread)
    if rows:
        output.note(HINT)
        raise typer.Exit(FAILED)


def _check_controls(needles: Needles, hits: Counter[Hit]) -> None:
    seen = {hit.needle for hit in hits}
    if needles.control not in seen:
        raise Problem(
            "the search does not see this server's files: it did not find the mark that it had written into WAL",
            hint="Is this the server's machine, and may this user read the data directory?",
        )
    if needles.absent in seen:
        raise Problem("the search leaves traces of what it looks for, so its result says nothing")


def _in_files(needles: Needles, places: ServerFiles, hits: Counter[Hit]) -> Iterable[Found]:
    for hit, times in hits.items():
        column = needles.values.get(hit.needle)
        if column is not None:
            yield (*places.kind(hit.path), column), hit.needle, times


def _in_statements(needles: Needles, server: ServerSession) -> Iterable[Found]:
    """What is compressed in files, or in memory yet, shows by SQL: statistics and statements."""
    from pg_envelope_client.residue import queries

    for row in server.rows(queries.TEXTS) + _of_pg_stat_statements(server):
        text = row["content"].encode()
        for needle, column in needles.values.items():
            if needle in text:
                yield (row["kind"], row["place"], column), needle, 1


def _of_pg_stat_statements(server: ServerSession) -> list[dict[str, str]]:
    from psycopg.errors import ObjectNotInPrerequisiteState, UndefinedTable

    from pg_envelope_client.residue import queries

    try:
        return server.rows(queries.STATEMENTS)
    except (UndefinedTable, ObjectNotInPrerequisiteState):
        return []


def _counted(found: Iterable[Found]) -> list[dict[str, object]]:
    """Counts by place. The values themselves end here."""
    times: Counter[Place] = Counter()
    which: dict[Place, set[bytes]] = defaultdict(set)
    for place, needle, count in found:
        times[place] += count
        which[place].add(needle)
    return [
        {"kind": kind, "place": name, "column": column, "times": count, "values": len(which[kind, name, column])}
        for (kind, name, column), count in times.most_common()
    ]


def _say_what_was_not_seen(needles: Needles, unread: int) -> None:
    output.note(f"Looked for {len(needles.values)} values. The planted mark was found.")
    if needles.short:
        output.note(f"Too short or too plain to look for, or of several lines: {_listed(needles.short)}")
    if needles.long:
        output.note(f"So long that PostgreSQL may have compressed them, and then not seen: {_listed(needles.long)}")
    if needles.binary:
        output.note(
            f"Data files hold no text of these columns' types, so they could not show: {', '.join(needles.binary)}"
        )
    if unread:
        output.note(f"{unread} files could not be read.", style="yellow")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{column}: {count}" for column, count in counts.items())
