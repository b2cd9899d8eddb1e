"""pg-envelope reencrypt, progress, pause, resume, abort, receipts: old values under the newest key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import BatchSize, Dsn, MaxLag, Pause, Table
from pg_envelope_client.commands.tables import resumable

if TYPE_CHECKING:
    from pg_envelope_client.statements import Query

SHOWN = (
    "relation",
    "what",
    "part",
    "parts",
    "state",
    "blocks_done",
    "blocks_total",
    "rows",
    "faults",
    "rows_per_second",
    "eta",
)
RECEIPT = ("relation", "finished_at", "rows", "left", "receipt_id")
SIGNED = ("statement", "signature", "public_key")
MaybeTable = Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Only the jobs of this table.")]


def reencrypt(
    table: Table,
    batch_size: BatchSize = 1000,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Sessions that work on parts of it at the same time.")] = 1,
    pause: Pause = 0,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin at the table's end.")] = False,
    max_lag_mb: MaxLag = 64,
    dsn: Dsn = None,
) -> None:
    """Move values under older key versions to the newest one, in committed batches; ends with a receipt."""
    from pg_envelope_client.database import session
    from pg_envelope_client.parallel import run_all
    from pg_envelope_client.progress import board

    batches = statements.BatchArguments(batch_size, pause, max_lag_mb)
    made = [statements.reencrypt(table, batches, part, jobs, newest_first) for part in range(1, jobs + 1)]
    with resumable(f"pg-envelope reencrypt {table}"), board(table) as shown, session(dsn) as watcher:
        run_all(dsn, made, shown.note, lambda: shown.show(_reencrypting(watcher.rows(statements.progress(table)))))
    output.done(f"{table}: re-encryption finished. Its receipt: pg-envelope receipts {table}", table=table)


def _reencrypting(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [job for job in jobs if job["what"] == "reencrypt"]


def progress(table: MaybeTable = None, dsn: Dsn = None) -> None:
    """Show the jobs of reencrypt, verify and search, running or last: how far, how fast, how long still."""
    _show(statements.progress(table) if table else statements.PROGRESS, SHOWN, "No job yet.", dsn)


def pause(table: Table, dsn: Dsn = None) -> None:
    """Let the jobs of a table wait after their batch; they hold no lock meanwhile."""
    _order(table, statements.pause(table), "told to pause. To go on: pg-envelope resume", dsn)


def resume(table: Table, dsn: Dsn = None) -> None:
    """Let paused jobs of a table go on."""
    _order(table, statements.resume(table), "told to go on. See: pg-envelope progress", dsn)


def abort(table: Table, dsn: Dsn = None) -> None:
    """End the jobs of a table after their batch; the committed batches stay."""
    _order(table, statements.abort(table), "told to end. Committed batches stay. See: pg-envelope progress", dsn)


def receipts(
    table: MaybeTable = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the newest one to FILE, for pg-envelope verify-receipt.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """List the signed receipts of re-encryptions, or export the newest."""
    found = statements.receipts(table) if table else statements.RECEIPTS
    if out is None:
        _show(found, RECEIPT, "No receipts. CALL envelope.reencrypt(...) ends with one.", dsn)
    else:
        _export(found, out, dsn)


def _export(statement: Query, out: Path, dsn: str | None) -> None:
    from pg_envelope_client.database import session
    from pg_envelope_client.problems import Problem

    with session(dsn) as server:
        rows = server.rows(statement)
    if not rows:
        raise Problem("there is no receipt to export", hint="SELECT envelope.receipt('table') makes one.")
    out.write_text(json.dumps({name: rows[-1][name] for name in SIGNED}, indent=2) + "\n")
    relation = rows[-1]["relation"]
    output.done(
        f"{out} holds the receipt of {relation}. Next: pg-envelope verify-receipt {out}", file=str(out), table=relation
    )


def _show(statement: Query, names: tuple[str, ...], empty: str, dsn: str | None) -> None:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        output.print_rows(server.rows(statement), names, empty)


def _order(table: str, statement: Query, told: str, dsn: str | None) -> None:
    from pg_envelope_client.database import session
    from pg_envelope_client.problems import Problem

    with session(dsn) as server:
        count = server.value(statement)
    if not count:
        raise Problem(f"no job works on {table} now", hint="See: pg-envelope progress")
    output.done(f"{table}: {count} {'job' if count == 1 else 'jobs'} {told} {table}", table=table, jobs=count)
