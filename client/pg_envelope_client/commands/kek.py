"""pg-envelope kek: a new version of a KEK, all DEKs of a database under it, and from one KEK to another."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, progress, statements
from pg_envelope_client.commands.options import Dsn, StoreName
from pg_envelope_client.commands.tables import resumable
from pg_envelope_client.registry import Registry

if TYPE_CHECKING:
    from pg_envelope_client.statements import Query

keks = Registry("KEKs: rotate one, bring all DEKs to its newest version, or move them to another.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The KEK, as named in the broker's configuration.")]


@keks.command()
def rotate(name: Name, dsn: Dsn = None) -> None:
    """Make a new version of a KEK in its KMS, and rewrap all DEKs of this database; data is not touched."""
    _run(name, statements.rotate_kek(name), dsn)


@keks.command()
def rewrap(name: Name, dsn: Dsn = None) -> None:
    """Bring all DEKs of this database to a KEK's newest version; goes on where `rotate` ended early."""
    _run(name, statements.rewrap(name), dsn)


@keks.command()
def move(
    name: Name,
    to: Annotated[str, typer.Argument(metavar="TO", help="The new KEK; in any KMS.")],
    store: StoreName = None,
    table: Annotated[str | None, typer.Option("--table", metavar="TABLE", help="Only the DEKs of this table.")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="TENANT", help="Only this tenant's DEKs in --table.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Move DEKs from a KEK to another, and make new ones there; data is not touched, and stays readable meanwhile."""
    options = {"--store": store and store.value, "--table": table, "--tenant": tenant}
    given = [word for option, value in options.items() if value is not None for word in (option, value)]
    statement = statements.move_kek(name, to, store and store.value, table, tenant)
    _watched(name, statement, dsn, shlex.join(["pg-envelope", "kek", "move", name, to, *given]))
    sentence = f"What was under KEK {name} is under KEK {to}. Keep {name} while a backup may need it."
    output.done(sentence, kek=name, to=to)


def _run(name: str, statement: Query, dsn: str | None) -> None:
    _watched(name, statement, dsn, f"pg-envelope kek rewrap {name}")
    output.done(f"All DEKs of this database under KEK {name} have its newest version.", kek=name)


def _watched(name: str, statement: Query, dsn: str | None, again: str) -> None:
    from pg_envelope_client.database import session

    with (
        resumable(again),
        progress.watching(name) as watcher,
        session(dsn, on_notice=watcher) as server,
    ):
        server.run(statement)
