"""pg-envelope kek: a new version of a KEK, and all DEKs of a database under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, progress, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.commands.tables import resumable

if TYPE_CHECKING:
    from pg_envelope_client.statements import Statement

keks = typer.Typer(help="KEKs: rotate one, or bring all DEKs under it to its newest version.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The KEK, as named in the broker's configuration.")]


@keks.command()
def rotate(name: Name, dsn: Dsn = None) -> None:
    """Make a new version of a KEK in its KMS, and rewrap all DEKs of this database; data is not touched."""
    _run(name, statements.rotate_kek(name), dsn)


@keks.command()
def rewrap(name: Name, dsn: Dsn = None) -> None:
    """Bring all DEKs of this database to a KEK's newest version; goes on where `rotate` ended early."""
    _run(name, statements.rewrap(name), dsn)


def _run(name: str, statement: Statement, dsn: str | None) -> None:
    from pg_envelope_client.database import session

    with (
        resumable(f"pg-envelope kek rewrap {name}"),
        progress.watching(name) as watcher,
        session(dsn, on_notice=watcher) as server,
    ):
        server.run(statement)
    output.say(f"All DEKs of this database under KEK {name} have its newest version.")
