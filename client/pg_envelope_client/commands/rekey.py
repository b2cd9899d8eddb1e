"""pg-envelope rekey: a copy of a database becomes one of this broker's environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pg_envelope_client import output, progress, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.commands.tables import resumable
from pg_envelope_client.problems import Problem, usage


def rekey(
    from_environment: Annotated[
        str, typer.Option("--from", metavar="ENVIRONMENT", help="The environment that the keys belong to.")
    ],
    from_kek: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="This broker's name for the KEK that holds them. Default: as in the catalog."
        ),
    ] = None,
    to_kek: Annotated[
        str | None, typer.Option(metavar="NAME", help="The KEK that shall hold them. Default: the name in the catalog.")
    ] = None,
    backup: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where a new backup of the keys goes: older ones are of no use afterwards."),
    ] = None,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Make no backup of the keys.")] = False,
    dsn: Dsn = None,
) -> None:
    """Wrap all keys of a restored copy for the broker's own environment; data is not touched."""
    from pg_envelope_client.commands.keys_backup import make as make_backup
    from pg_envelope_client.database import session

    if (backup is None) != no_backup:
        raise usage(
            "rekey makes all earlier backups of the keys useless for this database",
            hint="Name a file for a new one: --backup FILE. Or say --no-backup.",
        )
    if backup is not None and backup.exists():
        raise Problem(f"{backup} exists", hint="A backup is written to a new file.")
    with (
        resumable(f"pg-envelope rekey --from {from_environment}"),
        progress.watching("rekey") as watcher,
        session(dsn, on_notice=watcher) as server,
    ):
        server.run(statements.rekey(from_environment, from_kek, to_kek))
    sentence = "All keys of this database are of the broker's environment now, under a database uuid of their own."
    if backup is None:
        output.done(sentence)
    else:
        output.say(sentence)
        make_backup(backup, dsn)
