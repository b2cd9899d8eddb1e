"""pg-envelope dashboard: one local page about a database's encryption."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from pg_envelope_client import output
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import Problem

CAREFUL = (
    "SET search_path = pg_catalog, pg_temp",
    "SET default_transaction_read_only = on",
    "SET statement_timeout = '20s'",
    "SET lock_timeout = '2s'",
)


class Files(NamedTuple):
    """The broker's files that the page tells of."""

    ledger: Path | None
    audit_log: Path | None


def dashboard(
    listen: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="JSONL", exists=True, dir_okay=False, help="The ledger of reads, for who read what."),
    ] = None,
    audit_log: Annotated[
        Path | None,
        typer.Option(metavar="JSONL", exists=True, dir_okay=False, help="The broker's audit log, for refusals."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the page as HTML, and serve nothing.")] = False,
    dsn: Dsn = None,
) -> None:
    """Show health, keys, readers and jobs in a browser, until Ctrl-C."""
    from pg_envelope_client.dashboard.serve import DashboardServer
    from pg_envelope_client.database import session

    files = Files(ledger, audit_log)
    with session(dsn) as server:
        place = server.place
    if once:
        output.print_text("page", _whole(place, list(_sections(files, dsn))))
        return
    try:
        serving = DashboardServer(listen, lambda: _page(place, files, dsn))
    except OSError as error:
        raise Problem(f"cannot listen on port {listen}", detail=error.strerror) from None
    # A reader of a pipe waits for this line.
    output.done(f"The page is at {serving.url} until Ctrl-C.", url=serving.url)
    output.flush()
    serving.serve_forever()


def _page(place: str, files: Files, dsn: str | None) -> str:
    """Returns the page, also when the database does not answer."""
    try:
        return _whole(place, list(_sections(files, dsn)))
    except Problem as problem:
        return _whole(place, [f"<p>The database does not answer: {escape(problem.message)}.</p>"])


def _whole(place: str, sections: list[str]) -> str:
    from pg_envelope_client.pages import paragraph, whole

    now = datetime.now(UTC).strftime("%F %T UTC")
    refresh = '<meta http-equiv="refresh" content="60">'
    return whole("pg_envelope", [paragraph(f"{place}, at {now}"), *sections], refresh)


def _sections(files: Files, dsn: str | None) -> Iterator[str]:
    from pg_envelope_client.dashboard import sections
    from pg_envelope_client.database import session
    from pg_envelope_client.statements import Query

    with session(dsn, lambda _: None) as server:
        for setting in CAREFUL:
            server.run(Query(setting))
        yield from sections.shown(server)
    yield from _of_files(files)


def _of_files(files: Files) -> Iterator[str]:
    """Yields what the broker's files tell. One that cannot be read says so."""
    from pg_envelope_client.dashboard import alarms, sections
    from pg_envelope_client.dashboard.reads import sums

    if any(files):
        try:
            yield sections.of_alarms(alarms.listed(*files))
        except OSError as error:
            yield sections.of_alarms([{"failed": str(error.strerror)}])
    if files.ledger is not None:
        try:
            yield from sections.of_reads(*sums(files.ledger))
        except OSError as error:
            yield from sections.of_reads([{"failed": str(error.strerror)}], False)
