"""pg-envelope keys-backup: a backup of all DEKs that survives a lost KMS, and their return."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from pg_envelope_client import output, statements, streams
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import FAILED, Problem, usage
from pg_envelope_client.registry import Registry

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession
    from pg_envelope_client.keys_backup.backup_file import Head, Reader, SealedDek, Writer
    from pg_envelope_client.keys_backup.opening import Holder, OpenedBackup

backups = Registry(
    "Backup of all DEKs under a break-glass key: init, make, verify; return brings them back under another KEK."
)
BATCH = 200
SHOWN = 20
File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The file break-glass.key.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with the passphrase; mode 0600. Default: ask for it.")
]
SharesFile = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="A file with shares, one a line; mode 0600. May be repeated.")
]
AskShares = Annotated[bool, typer.Option("--ask-shares", help="Ask for shares on the terminal.")]


@backups.command("init")
def init(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where break-glass.pub (and break-glass.key) are written.")],
    passphrase_file: PassphraseFile = None,
    shares: Annotated[
        int, typer.Option(min=0, help="Make so many shares instead of a passphrase; they are shown once.")
    ] = 0,
    threshold: Annotated[int, typer.Option(min=0, help="How many of the shares are needed.")] = 0,
) -> None:
    """Make the break-glass key: the public half for the broker, the private half for a safe."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from pg_envelope import keys_backup
    from pg_envelope_client.keys_backup import opening
    from pg_envelope_client.keys_backup import shares as parts
    from pg_envelope_client.setup import private_files

    public_file, key_file = _new_files(out)
    private = X25519PrivateKey.generate()
    words: list[str] = []
    if shares or threshold:
        words = parts.split(private.private_bytes_raw(), threshold, shares)
    else:
        content = opening.closed(private, opening.passphrase(passphrase_file, twice=True))
        _write(key_file, content, private_files.SECRET)
    _tell(public_file, key_file, words, threshold)
    # Last: a public key whose shares nobody has seen would make backups that nobody can open.
    streams.delivered()
    _write(public_file, keys_backup.public_text(private.public_key()).encode() + b"\n", private_files.PUBLIC)


def _new_files(folder: Path) -> tuple[Path, Path]:
    """Returns the places of the public and the private half. Raises Problem where one of them is taken."""
    files = folder / "break-glass.pub", folder / "break-glass.key"
    if any(file.exists() for file in files):
        raise Problem(f"{folder} holds a break-glass key already", hint="Choose another folder.")
    return files


def _write(file: Path, content: bytes, mode: int) -> None:
    from pg_envelope_client.setup import private_files

    file.parent.mkdir(parents=True, exist_ok=True)
    private_files.write(file, content, mode)


def _tell(public_file: Path, key_file: Path, words: list[str], threshold: int) -> None:
    """Shows the shares, or else where the private half is."""
    if not output.for_machine():
        for number, share in enumerate(words, 1):
            print(f"Share {number} of {len(words)}, any {threshold} are needed:\n{share}\n")
    next_step = "Each holder writes a share down; they are shown only now." if words else f"Into a safe: {key_file}"
    setting = f"break_glass_public_key_file = {str(public_file.absolute())!r}"
    output.done(
        f"For the broker: {setting} under [broker]. {next_step}",
        public_key_file=str(public_file.absolute()),
        **({"shares": words} if words else {"key_file": str(key_file)}),
    )


@backups.command()
def make(out: Annotated[Path, typer.Option(metavar="FILE", help="A new file; mode 0600.")], dsn: Dsn = None) -> None:
    """Write every DEK of the database, sealed for the break-glass key, into a file."""
    from pg_envelope_client.database import session
    from pg_envelope_client.keys_backup.backup_file import writing

    with session(dsn) as server, writing(out) as writer:
        writer.head(_head(server))
        failed = _copy(server, writer)
        count = writer.count
    if failed:
        shown = "; ".join(failed[:SHOWN])
        raise Problem(
            f"{len(failed)} DEKs are not in the backup, {count} are",
            detail=shown + (f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""),
            hint="See envelope.status(); then make the backup again, under another name.",
        )
    output.done(f"{count} DEKs are in {out}. Next: pg-envelope keys-backup verify {out}", deks=count, file=str(out))


def _head(server: ServerSession) -> Head:
    from pg_envelope_client.keys_backup.backup_file import Head

    found = server.rows(statements.KEYS_BACKUP_PLACE)
    if not found:
        raise Problem("this database has no keys")
    (row,) = found
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Head(UUID(str(row["database_uuid"])), row["environment"], row["public_key"], now)


def _copy(server: ServerSession, writer: Writer) -> list[str]:
    """Writes every DEK into the backup. Returns the failures, a line for each DEK."""
    failed: list[str] = []
    after = 0
    while rows := server.rows(statements.keys_backup(after, BATCH)):
        after = rows[-1]["dek_id"]
        for row in rows:
            if row["error"] is None:
                writer.dek(row)
            else:
                failed.append(f"DEK {row['dek_id']}: {row['error']}")
        if writer.count % 2000 < BATCH:
            output.note(f"{writer.count} DEKs")
    return failed


@backups.command()
def verify(
    file: File,
    dsn: Dsn = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not compare with a database.")] = False,
    key: Key = None,
    passphrase_file: PassphraseFile = None,
    shares_file: SharesFile = None,
    ask_shares: AskShares = False,
) -> None:
    """Check a backup: whole, complete for the database, and, with the break-glass key, that each DEK opens."""
    from pg_envelope_client.keys_backup.backup_file import Reader
    from pg_envelope_client.keys_backup.opening import Holder

    found = Reader(file)
    rows = [
        {"check_name": "file", "state": "ok", "detail": f"{len(found.deks)} DEKs, made {found.head.made}", "hint": None}
    ]
    if not offline:
        rows.append(_completeness(found, dsn))
    holder = Holder(key, passphrase_file, shares_file or [], ask_shares)
    if holder.given or passphrase_file:
        rows.append(_openness(found, holder))
    output.print_rows(rows, ("check_name", "state", "detail"), "")
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(FAILED)


def _completeness(found: Reader, dsn: str | None) -> dict[str, str | None]:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        _same_database(found, server)
        live = {row["dek_id"]: bytes(row["fingerprint"]) for row in server.rows(statements.LIVE_DEKS)}
    there = {dek.dek_id: dek.fingerprint for dek in found.deks}
    missing = [dek_id for dek_id, fingerprint in live.items() if there.get(dek_id) != fingerprint]
    gone = len(set(there) - set(live))
    more = f"; {gone} of the backup are destroyed by now" if gone else ""
    if missing:
        detail = f"{len(missing)} of {len(live)} DEKs are missing: {_some(missing)}{more}"
        return _row("complete", "failed", detail, "Make a new backup.")
    return _row("complete", "ok", f"all {len(live)} DEKs of the database{more}", None)


def _openness(found: Reader, holder: Holder) -> dict[str, str | None]:
    from pg_envelope_client.keys_backup.opening import OpenedBackup

    opened = OpenedBackup(found, holder.private_key())
    bad = [dek.dek_id for dek in found.deks if opened.dek(dek) is None]
    if bad:
        return _row("opens", "failed", f"{len(bad)} DEKs do not open: {_some(bad)}", "Take another backup.")
    return _row("opens", "ok", f"all {len(found.deks)} DEKs open to their fingerprints", None)


def _row(name: str, state: str, detail: str, hint: str | None) -> dict[str, str | None]:
    return {"check_name": name, "state": state, "detail": detail, "hint": hint}


def _some(dek_ids: list[int]) -> str:
    return ", ".join(map(str, dek_ids[:SHOWN])) + (", ..." if len(dek_ids) > SHOWN else "")


def _same_database(found: Reader, server: ServerSession) -> None:
    here = server.rows(statements.INSTALLATION)
    if not here or UUID(str(here[0]["database_uuid"])) != found.head.database:
        raise Problem("the backup is of another database", detail=f"database uuid {found.head.database}")


@backups.command("return")
def bring_back(
    file: File,
    kek: Annotated[str, typer.Option(help="The KEK that shall hold the DEKs from now on, as the broker names it.")],
    from_kek: Annotated[
        str | None, typer.Option("--from-kek", metavar="NAME", help="Only DEKs that the catalog names under this KEK.")
    ] = None,
    dsn: Dsn = None,
    key: Key = None,
    passphrase_file: PassphraseFile = None,
    shares_file: SharesFile = None,
    ask_shares: AskShares = False,
) -> None:
    """Break glass: bring all DEKs of a database back from a backup, under a new KEK. Can be repeated."""
    from pg_envelope_client.database import session
    from pg_envelope_client.keys_backup.backup_file import Reader
    from pg_envelope_client.keys_backup.opening import Holder, OpenedBackup

    found = Reader(file)
    opened = OpenedBackup(found, Holder(key, passphrase_file, shares_file or [], ask_shares).private_key())
    with session(dsn) as server:
        _same_database(found, server)
        wanted = {row["dek_id"] for row in server.rows(statements.LIVE_DEKS) if from_kek in (None, row["kek"])}
        if not wanted:
            raise usage("there is no DEK to bring back")
        back, failed = _bring_back(server, kek, [dek for dek in found.deks if dek.dek_id in wanted], opened)
    failed += [f"DEK {dek_id}: not in the backup" for dek_id in sorted(wanted - {dek.dek_id for dek in found.deks})]
    if failed:
        raise Problem(
            f"{len(failed)} DEKs are not back, {back} are",
            detail="; ".join(failed[:SHOWN]) + (f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""),
            hint="Return these from another backup. The DEKs that are back stay.",
        )
    next_step = "Next: take allow_keys_return out of the broker's configuration."
    output.done(f"{back} DEKs are back, under KEK {kek}. {next_step}", deks=back, kek=kek)


def _bring_back(server: ServerSession, kek: str, deks: list[SealedDek], opened: OpenedBackup) -> tuple[int, list[str]]:
    """Returns the DEKs of a backup to the database, and commits each batch.

    Returns how many are back, and the failures, a line for each DEK.
    """
    from pg_envelope import keys_backup

    (told,) = server.rows(statements.keys_return_key(kek))
    public = keys_backup.public_key(told["public_key"])
    place = keys_backup.SealPlace(keys_backup.RETURN, told["environment"], UUID(str(told["database_uuid"])))
    back, failed, rest = 0, list[str](), iter(deks)
    while batch := list(islice(rest, BATCH)):
        plain = {line.dek_id: opened.dek(line) for line in batch}
        failed += [f"DEK {dek_id}: does not open" for dek_id, dek in plain.items() if dek is None]
        sealed = {n: keys_backup.seal(public, place, n, dek) for n, dek in plain.items() if dek is not None}
        answers = server.rows(statements.keys_return(kek, told["public_key"], list(sealed), list(sealed.values())))
        failed += [f"DEK {row['dek_id']}: {row['error']}" for row in answers if row["error"] is not None]
        back += sum(row["error"] is None for row in answers)
    return back, failed
