"""Brings a sealed backup into a database, or into a new data directory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from pg_envelope_client.backups.head import BASE
from pg_envelope_client.backups.programs import Programs
from pg_envelope_client.backups.scratch import ScratchCluster
from pg_envelope_client.backups.sealed_backup import OpenBackup
from pg_envelope_client.problems import Problem


def into_database(backup: OpenBackup, programs: Programs, dsn: str, environment: dict[str, str] | None = None) -> None:
    """Runs pg_restore on a dump. Raises Problem."""
    words = ["pg_restore", "--exit-on-error", *([f"--dbname={dsn}"] if dsn else ["--dbname="])]
    programs.feed(words, backup.write, environment)


def into_folder(backup: OpenBackup, programs: Programs, folder: Path) -> None:
    """Unpacks a base backup into a folder that it makes. Nothing stays of it when that fails. Raises Problem."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise Problem(f"{folder} exists already", hint="Name a folder that does not exist.") from None
    try:
        programs.feed(["tar", "--extract", "--file=-", f"--directory={folder}"], backup.write)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def missing_roles(backup: OpenBackup, there: Sequence[str]) -> list[str]:
    """Returns the roles of the backup's cluster that a server does not have."""
    return sorted(set(backup.about.roles) - set(there))


def into_scratch(backup: OpenBackup, programs: Programs, cluster: ScratchCluster) -> None:
    """Restores into a new cluster, and leaves it running. Raises Problem."""
    if backup.head.kind == BASE:
        into_folder(backup, programs, cluster.data)
        cluster.start()
        return
    cluster.made()
    cluster.start()
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
        for role in missing_roles(backup, [cluster.superuser]):
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        if backup.about.database != "postgres":
            name = sql.Identifier(backup.about.database)
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    into_database(backup, programs, cluster.dsn(backup.about.database), cluster.environment)
