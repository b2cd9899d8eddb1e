"""pg-envelope backups create, restore, verify, prune: backups that a stolen disk does not open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.key_client import broker
from pg_envelope_client.commands.keys_backup import AskShares, Key, PassphraseFile, SharesFile
from pg_envelope_client.commands.options import Dsn, Kek
from pg_envelope_client.problems import FAILED, Problem
from pg_envelope_client.registry import BrokerAt, Registry

if TYPE_CHECKING:
    from uuid import UUID

    from pg_envelope_client.backups.folder import StoredBackup
    from pg_envelope_client.backups.head import AboutCluster
    from pg_envelope_client.backups.sealed_backup import OpenBackup
    from pg_envelope_client.database import ServerSession
    from pg_envelope_client.keys_backup.opening import Holder


class BackupKind(StrEnum):
    """What a backup holds: the output of pg_dump for one database, or of pg_basebackup for the cluster."""

    DUMP = "dump"
    BASE = "base"


Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backups.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The sealed backup.")]
Bindir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="PostgreSQL's programs. Default: where pg_config says, then PATH.")
]
SOCKET_VARIABLE = "PG_ENVELOPE_SOCKET"


def register(backups: Registry) -> None:
    """Adds these commands to the group `backups`."""
    for command in (create, restore, verify, prune):
        backups.command()(command)


def create(
    folder: Folder,
    broker_at: BrokerAt,
    kind: Annotated[BackupKind, typer.Option(help="One database, or the whole cluster.")] = BackupKind.DUMP,
    label: Annotated[str | None, typer.Option(help="Default: the database's name, the kind and the time.")] = None,
    kek: Kek = "default",
    kms_only: Annotated[bool, typer.Option("--kms-only", help="Do without a break-glass key.")] = False,
    bindir: Bindir = None,
    dsn: Dsn = None,
) -> None:
    """Make a sealed backup, and register it. Runs on the broker's machine, at the broker's socket."""
    from pg_envelope_client.backups import folder as files
    from pg_envelope_client.backups import keys, sealed_backup
    from pg_envelope_client.backups.head import checked_label
    from pg_envelope_client.backups.programs import Programs
    from pg_envelope_client.database import session

    programs = Programs(bindir)
    with session(dsn) as server, broker(broker_at) as connection:
        database, about, now = _database(server), _about(server), datetime.now(UTC)
        name = checked_label(label or f"{_plain(about.database)}-{kind.value}-{now:%Y%m%dT%H%M%SZ}")
        path, made = files.path_of(folder, name), now.isoformat(timespec="seconds")
        head, key = keys.new(connection, database, kek, name, kind.value, made, about, kms_only)
        with _registered(server, name), programs.giving(kind.value, dsn or "") as (source, ended):
            sealed_backup.write(path, head, key, source, ended)
    size = path.stat().st_size
    sentence = f"{path} is made and registered, {size} bytes. Next: pg-envelope backups verify {path}"
    output.done(sentence, file=str(path), label=name, bytes=size)


def restore(
    file: File,
    broker_at: BrokerAt,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="For a base backup: the new data directory.")] = None,
    bindir: Bindir = None,
    key: Key = None,
    passphrase_file: PassphraseFile = None,
    shares_file: SharesFile = None,
    ask_shares: AskShares = False,
    dsn: Dsn = None,
) -> None:
    """Restore a dump into an empty database, or a base backup into a new folder. It is opened to its end first."""
    from pg_envelope_client.backups import restoring
    from pg_envelope_client.backups.head import BASE
    from pg_envelope_client.backups.programs import Programs

    backup = _opened(file, broker_at, _holder(key, passphrase_file, shares_file, ask_shares))
    if (backup.head.kind == BASE) != (out is not None):
        raise Problem(
            f"{file} is a backup of the kind {backup.head.kind}",
            hint="A base backup wants --out DIR. A dump wants an empty database: --dbname NAME",
        )
    backup.check()
    if out is not None:
        restoring.into_folder(backup, Programs(bindir), out)
    else:
        _refuse_unfit(backup, dsn)
        restoring.into_database(backup, Programs(bindir), dsn or "")
    place = str(out) if out is not None else "the database"
    output.done(f"{file} is restored into {place}. Next: pg-envelope status", file=str(file), label=backup.head.label)


def verify(
    file: File,
    broker_at: BrokerAt,
    scratch_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the scratch cluster is made and removed. Default: TMPDIR.")
    ] = None,
    bindir: Bindir = None,
    key: Key = None,
    passphrase_file: PassphraseFile = None,
    shares_file: SharesFile = None,
    ask_shares: AskShares = False,
) -> None:
    """Restore a backup into a scratch cluster, and check status and every value there."""
    from pg_envelope_client.backups import checking, folder, restoring
    from pg_envelope_client.backups.programs import Programs
    from pg_envelope_client.backups.scratch import refuse_root, scratch

    refuse_root()
    backup = _opened(file, broker_at, _holder(key, passphrase_file, shares_file, ask_shares))
    backup.check()
    rows = [checking.row("file", "ok", f"it opens to its end; made {backup.head.made}")]
    programs = Programs(bindir)
    with scratch(scratch_dir, programs, backup.about.superuser, _environment(broker_at)) as cluster:
        restoring.into_scratch(backup, programs, cluster)
        rows += checking.all_databases(cluster)
    output.print_rows(rows, ("check_name", "state", "detail"), "")
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(FAILED)
    folder.mark_verified(file, backup.head, datetime.now(UTC).isoformat(timespec="seconds"))


def prune(
    folder: Folder,
    keep_days: Annotated[int, typer.Option(min=1, help="Younger backups stay.")] = 35,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would go.")] = False,
    dsn: Dsn = None,
) -> None:
    """Remove old backups of this database. The newest verified one always stays."""
    from pg_envelope_client.backups import folder as files
    from pg_envelope_client.database import session

    with session(dsn) as server:
        found = list(_found(folder, _database(server)))
        begun = [one for one in found if files.is_going(one.path)]
        there = [one for one in found if one not in begun]
        old = files.old(there, datetime.now(UTC) - timedelta(days=keep_days))
        if there and not any(one.verified for one in there):
            output.note("No backup here is verified, so none goes. Next: pg-envelope backups verify FILE")
        if not dry_run:
            for one in [*begun, *old]:
                _go(server, one)
    rows = [{"label": one.head.label, "made": one.head.made, "file": str(one.path)} for one in [*begun, *old]]
    output.print_rows(rows, ("label", "made", "file"), "No backup is old enough to go.")


def _go(server: ServerSession, one: StoredBackup) -> None:
    """Removes a backup. Broken off at any point, the next call goes on: the database never counts it gone too early."""
    from pg_envelope_client.backups import folder as files

    path = files.going(one.path)
    server.value(statements.forget_backup(one.head.label))
    files.remove(path)


def _found(folder: Path, database: UUID) -> Iterator[StoredBackup]:
    from pg_envelope_client.backups import folder as files

    for one in files.all_of(folder, database):
        if isinstance(one, Problem):
            output.note(f"{one.message}. It stays.", style="yellow")
        else:
            yield one


@contextmanager
def _registered(server: ServerSession, label: str) -> Iterator[None]:
    """Registers a backup before a byte of it exists. What the body breaks off counts as destroyed: it has no file."""
    import psycopg

    server.value(statements.register_backup(label, None, None, "infinity"))
    try:
        yield
    except BaseException:
        # Without the server it stays under way, and counts.
        with suppress(psycopg.Error):
            server.value(statements.forget_backup(label))
        raise
    server.value(statements.finish_backup(label))


def _database(server: ServerSession) -> UUID:
    from uuid import UUID

    found = server.rows(statements.INSTALLATION)
    if not found:
        raise Problem("this database has no keys", hint="Use pg_dump itself, or protect a table first.")
    return UUID(str(found[0]["database_uuid"]))


def _about(server: ServerSession) -> AboutCluster:
    from pg_envelope_client.backups.head import AboutCluster

    (row,) = server.rows(statements.ABOUT_CLUSTER)
    return AboutCluster(row["database"], row["superuser"], tuple(row["roles"]))


def _plain(name: str) -> str:
    """Returns a database's name with only those letters that a label may have."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)[:60] or "_"


def _holder(key: Path | None, passphrase_file: Path | None, shares_file: list[Path] | None, ask_shares: bool) -> Holder:
    from pg_envelope_client.keys_backup.opening import Holder

    return Holder(key, passphrase_file, shares_file or [], ask_shares)


def _opened(file: Path, broker_at: BrokerAt, holder: Holder) -> OpenBackup:
    """Gets the file key by the break-glass key, if one is given, or else by the broker. Raises Problem."""
    from pg_envelope_client.backups import head as heads
    from pg_envelope_client.backups import keys
    from pg_envelope_client.backups.sealed_backup import OpenBackup

    head = heads.read(file)
    if holder.given:
        return OpenBackup(file, head, keys.by_break_glass(holder, head, file))
    with broker(broker_at) as connection:
        return OpenBackup(file, head, keys.by_broker(connection, head))


def _refuse_unfit(backup: OpenBackup, dsn: str | None) -> None:
    """Raises Problem for a database that is not empty, or a server that lacks roles."""
    from pg_envelope_client.backups.restoring import missing_roles
    from pg_envelope_client.database import session

    with session(dsn) as server:
        if server.value(statements.HAS_EXTENSION):
            raise Problem("the database has pg_envelope in it already", hint="createdb NAME; then --dbname NAME")
        missing = missing_roles(backup, _about(server).roles)
    if missing:
        hint = "CREATE ROLE for each, or restore what pg_dumpall --roles-only wrote."
        raise Problem("the server lacks roles of the backup", detail=", ".join(missing), hint=hint)


def _environment(broker_at: BrokerAt) -> dict[str, str]:
    """Returns what the scratch server gets, so that its sessions find the same broker."""
    given = {SOCKET_VARIABLE: broker_at.address} if (broker_at.address or "").startswith("/") else {}
    return {
        name: value for name, value in os.environ.items() if not name.startswith("PG") or name.startswith("PG_")
    } | {name: value for name, value in given.items() if value}
