"""pg-envelope backups: the backups of the database that somebody has registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import Problem
from pg_envelope_client.registry import Registry

if TYPE_CHECKING:
    from pg_envelope_client.statements import Query

backups = Registry(
    "Backups of the database: create, restore, verify and prune sealed ones; list, register, keep, forget any."
)
SHOWN = ("label", "taken_at", "expires_at", "state")
Label = Annotated[str, typer.Argument(metavar="LABEL", help="The backup's own name, such as its date and kind.")]
UNKNOWN = "See: pg-envelope backups list"


@backups.command("list")
def list_backups(dsn: Dsn = None) -> None:
    """List all registered backups, also those that are destroyed."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        rows = server.rows(statements.BACKUPS)
    output.print_rows(rows, SHOWN, "No backup is registered. Next: pg-envelope backups register LABEL")


@backups.command()
def register(
    label: Label,
    taken: Annotated[str | None, typer.Option(metavar="TIME", help="When the backup was taken. Default: now.")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="When the backup will be destroyed. Default: never.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Say that there is a backup. A label is not used twice."""
    _value(statements.register_backup(label, taken, expires), dsn)
    output.done(f"{label} is registered.", label=label, expires=expires)


@backups.command()
def keep(
    label: Label,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="When the backup will be destroyed. Default: never.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Change until when a backup is kept."""
    _known(_value(statements.keep_backup(label, until), dsn), label)
    output.done(f"{label} is kept {f'until {until}' if until else 'for ever'}.", label=label, expires=until)


@backups.command()
def forget(label: Label, dsn: Dsn = None) -> None:
    """Say that a backup was destroyed."""
    _known(_value(statements.forget_backup(label), dsn), label)
    output.done(f"{label} counts as destroyed.", label=label)


def _known(found: object, label: str) -> None:
    if not found:
        raise Problem(f"there is no backup with the label {label}", hint=UNKNOWN)


def _value(statement: Query, dsn: str | None) -> object:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        return server.value(statement)
