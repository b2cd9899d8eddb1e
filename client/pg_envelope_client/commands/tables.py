"""pg-envelope protect and unprotect: what changes a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pg_envelope_client import columns, output, statements
from pg_envelope_client.commands.options import DamagedChoice, Dsn, ErasedChoice, Kek, ScopeKind, StoreName, Table
from pg_envelope_client.problems import INTERRUPTED, Problem


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
    dsn: Dsn = None,
) -> None:
    """Encrypt columns of a table; afterwards its name is the decrypting view."""
    from pg_envelope_client.database import session

    wanted = columns.parse_columns(specs)
    with resumable(f"pg-envelope protect {table}"), session(dsn) as server:
        scoping = statements.ScopeArguments(scope.value, scope_column, scope_of, erased.value)
        server.run(
            statements.protect(
                table, wanted, kek, store and store.value, scoping, keep_copies=keep_copies, dry_run=dry_run
            )
        )
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
    dsn: Dsn = None,
) -> None:
    """Decrypt a table's columns and give it back its plain form."""
    from pg_envelope_client.database import session

    with resumable(f"pg-envelope unprotect {table}"), session(dsn) as server:
        server.run(statements.unprotect(table, damaged.value))
    output.done(f"{table} is no longer protected; its columns are stored in the clear.", table=table)
