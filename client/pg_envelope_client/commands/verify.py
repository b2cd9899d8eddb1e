"""pg-envelope verify: whether every value of the protected tables opens."""

from __future__ import annotations

from typing import Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.commands.tables import resumable
from pg_envelope_client.problems import FAILED

TOLD = ("relation", "finished_at", "value_count", "reasons")
BAD = ("relation", "column", "row_key", "reason", "key_id")


def verify(
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="Only this table. Default: all protected tables.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows in one batch.")] = 1000,
    pause: Annotated[int, typer.Option(min=0, metavar="MS", help="Pause after each batch.")] = 0,
    anew: Annotated[bool, typer.Option("--anew", help="Begin again, where an earlier call ended early.")] = False,
    dsn: Dsn = None,
) -> None:
    """Open every value, and list what does not open (exit code 1). A receipt is checked by verify-receipt."""
    _run(table, statements.verify(table, batch_size, pause, anew), dsn)
    bad = _show(table, dsn)
    if bad:
        raise typer.Exit(FAILED)


def _run(table: str | None, statement: statements.Query, dsn: str | None) -> None:
    from pg_envelope_client.database import session
    from pg_envelope_client.progress import watching

    command = f"pg-envelope verify {table or ''}".strip()
    with resumable(command), watching(table or "all tables") as watcher, session(dsn, watcher) as server:
        server.run(statement)


def _show(table: str | None, dsn: str | None) -> int:
    """Prints the verifications and the bad values. Returns how many values are listed as bad."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        done, bad = server.rows(statements.verifications(table)), server.rows(statements.faults(table))
    if output.for_machine():
        output.print_json({"verifications": done, "faults": bad})
    else:
        output.print_rows(done, TOLD, "No protected tables.")
        output.print_rows(bad, BAD, "Every value opens, but for what was erased or suspended.")
    return len(bad)
