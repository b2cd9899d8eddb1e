"""pg-envelope rekey: a copy of a database becomes one of this broker's environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pg_envelope_client import output, progress, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.commands.tables import resumable
from pg_envelope_client.problems import Problem, usage

FromEnvironment = Annotated[
    str, typer.Option("--from", metavar="ENVIRONMENT", help="The environment that the keys belong to.")
]
FromKek = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="This broker's name for the KEK that holds them. Default: as in the catalog."),
]
ToKek = Annotated[
    str | None, typer.Option(metavar="NAME", help="The KEK that shall hold them. Default: the name in the catalog.")
]
Backup = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where a new backup of the keys goes: older ones are of no use afterwards."),
]
NoBackup = Annotated[bool, typer.Option("--no-backup", help="Make no backup of the keys.")]


def rekey(
    from_environment: FromEnvironment,
    from_kek: FromKek = None,
    to_kek: ToKek = None,
    backup: Backup = None,
    no_backup: NoBackup = False,
    dsn: Dsn = None,
) -> None:
    """Wrap all keys of a restored copy for the broker's own environment; data is not touched."""
    _check_backup(backup, no_backup)
    _rekey(statements.rekey(from_environment, from_kek, to_kek), from_environment, dsn)
    sentence = "All keys of this database belong to the broker's environment now, under a database uuid of their own."
    if backup is None:
        output.done(sentence)
        return
    output.say(sentence)
    from pg_envelope_client.commands.keys_backup import make

    make(backup, dsn)


def _check_backup(backup: Path | None, no_backup: bool) -> None:
    if (backup is None) != no_backup:
        raise usage(
            "rekey makes all earlier backups of the keys useless for this database",
            hint="Name a file for a new one: --backup FILE. Or say --no-backup.",
        )
    if backup is not None and backup.exists():
        raise Problem(f"{backup} exists", hint="A backup is written to a new file.")


def _rekey(statement: statements.Query, from_environment: str, dsn: str | None) -> None:
    from pg_envelope_client.database import session

    with (
        resumable(f"pg-envelope rekey --from {from_environment}"),
        progress.watching("rekey") as watcher,
        session(dsn, on_notice=watcher) as server,
    ):
        server.run(statement)
