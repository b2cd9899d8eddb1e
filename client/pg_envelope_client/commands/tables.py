"""pg-envelope protect and unprotect: what changes a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pg_envelope_client import columns, output, statements
from pg_envelope_client.commands.options import (
    DamagedChoice,
    Dsn,
    ErasedChoice,
    Kek,
    ScopeKind,
    StoreName,
    Table,
    max_lag,
)
from pg_envelope_client.problems import INTERRUPTED, Problem

Online = Annotated[
    bool, typer.Option("--online", help="Keep the table in use meanwhile. Run it again, and it goes on.")
]
BatchSize = Annotated[int, typer.Option(min=1, max=1_000_000, help="With --online: rows in one committed batch.")]
Pause = Annotated[int, typer.Option(min=0, metavar="MS", help="With --online: wait so long after each batch.")]
MaxLag = Annotated[
    int, max_lag("With --online: wait while a standby has more WAL than this to replay; 0 waits for none.")
]


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """Ends an interruption with a hint at the command that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        hint = f"Committed batches stay. To go on, run it again: {command}"
        raise Problem("interrupted", hint=hint, exit_code=INTERRUPTED) from None


def protect(
    table: Table,
    specs: Annotated[list[str], typer.Argument(metavar=columns.FORM + "...", help="Columns to encrypt.")],
    kek: Kek = "default",
    store: StoreName = None,
    scope: Annotated[ScopeKind, typer.Option(help="Which values share a DEK.")] = ScopeKind.TABLE,
    scope_column: Annotated[str | None, typer.Option(help="The column that holds the tenant or subject.")] = None,
    scope_of: Annotated[str | None, typer.Option(help="A protected table whose DEKs to share.")] = None,
    erased: Annotated[
        ErasedChoice, typer.Option(help="The answer to a read after the DEK was destroyed.")
    ] = ErasedChoice.ERROR,
    keep_copies: Annotated[
        bool, typer.Option("--keep-copies", help="Let materialized views hold the columns in the clear.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    online: Online = False,
    batch_size: BatchSize = 200,
    pause: Pause = 0,
    max_lag_mb: MaxLag = 64,
    dsn: Dsn = None,
) -> None:
    """Encrypt columns of a table; afterwards its name is the decrypting view."""
    wanted = columns.parse_columns(specs)
    scoping = statements.ScopeArguments(scope.value, scope_column, scope_of, erased.value)
    pace = statements.OnlineArguments(online, batch_size, pause, max_lag_mb)
    statement = statements.protect(
        table, wanted, kek, store and store.value, scoping, keep_copies=keep_copies, dry_run=dry_run, pace=pace
    )
    _run(table, statement, f"protect {table}", online, dsn)
    if dry_run:
        return
    sentence = f"{table} is protected: {', '.join(wanted)}. Next: pg-envelope status"
    output.done(sentence, table=table, columns=list(wanted))


def unprotect(
    table: Table,
    damaged: Annotated[
        DamagedChoice,
        typer.Option(help="What to do when a value does not open: refuse, or write NULL for it, for good."),
    ] = DamagedChoice.ERROR,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --online: this column only; repeat it. The others stay protected."),
    ] = None,
    online: Online = False,
    batch_size: BatchSize = 200,
    pause: Pause = 0,
    max_lag_mb: MaxLag = 64,
    dsn: Dsn = None,
) -> None:
    """Decrypt a table's columns and give it back its plain form."""
    pace = statements.OnlineArguments(online, batch_size, pause, max_lag_mb)
    statement = statements.unprotect(table, damaged.value, pace, column)
    _run(table, statement, f"unprotect {table}", online, dsn)
    if column:
        output.done(f"columns of {table} are stored in the clear: {', '.join(column)}", table=table, columns=column)
    else:
        output.done(f"{table} is no longer protected; its columns are stored in the clear.", table=table)


def _run(table: str, statement: statements.Query, command: str, online: bool, dsn: str | None) -> None:
    from pg_envelope_client.database import session

    if online:
        watched(table, statement, f"{command} --online", dsn)
        return
    with resumable(f"pg-envelope {command}"), session(dsn) as server:
        server.run(statement)


def watched(table: str, statement: statements.Query, command: str, dsn: str | None) -> None:
    """Runs a statement that commits its work in batches, with a bar on stderr."""
    from pg_envelope_client.database import session
    from pg_envelope_client.progress import watching

    with resumable(f"pg-envelope {command}"), watching(table) as watcher, session(dsn, watcher) as server:
        server.run(statement)
