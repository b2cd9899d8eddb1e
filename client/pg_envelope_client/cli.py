"""The pg-envelope command."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pg_envelope._version import VERSION
from pg_envelope_client import output, streams
from pg_envelope_client.commands import (
    access,
    coverage,
    dashboard,
    database_backups,
    erasure,
    evidence,
    files,
    jobs,
    kek,
    keys,
    keys_backup,
    ledger,
    lint,
    rekey,
    report,
    residue,
    schedule,
    sealed_backups,
    search,
    secret,
    setup,
    suspension,
    tables,
    tenant,
    verify,
)
from pg_envelope_client.problems import FAILED, INTERRUPTED, NO_READER, USAGE, Problem, usage
from pg_envelope_client.registry import Registry

commands = Registry(
    "Column-level envelope encryption inside PostgreSQL, with keys in HashiCorp Vault or OpenBao.", completion=True
)
commands.command(rich_help_panel="Set up")(setup.init)
commands.command(rich_help_panel="Set up")(setup.broker)
commands.command(rich_help_panel="Tables")(tables.protect)
commands.command(rich_help_panel="Tables")(tables.unprotect)
commands.command(rich_help_panel="Tables")(report.columns)
commands.command(rich_help_panel="Tables")(report.status)
commands.command(rich_help_panel="Tables")(verify.verify)
commands.add_typer(search.searches, name="search", rich_help_panel="Tables")
commands.command(rich_help_panel="Tables")(lint.lint)
commands.command(rich_help_panel="Tables")(residue.residue)
commands.command(rich_help_panel="Tables")(coverage.discover)
commands.command(rich_help_panel="Tables")(coverage.coverage)
commands.command(rich_help_panel="Re-encryption")(jobs.reencrypt)
commands.command(rich_help_panel="Re-encryption")(jobs.progress)
commands.command(rich_help_panel="Re-encryption")(jobs.pause)
commands.command(rich_help_panel="Re-encryption")(jobs.resume)
commands.command(rich_help_panel="Re-encryption")(jobs.abort)
commands.command(rich_help_panel="Re-encryption")(jobs.receipts)
commands.add_typer(keys.keys, name="key", rich_help_panel="Keys")
commands.add_typer(secret.secrets, name="secret", rich_help_panel="Keys")
commands.command(rich_help_panel="Keys")(suspension.suspend)
commands.command(rich_help_panel="Keys")(suspension.unsuspend)
commands.add_typer(keys_backup.backups, name="keys-backup", rich_help_panel="Keys")
commands.command(rich_help_panel="Keys")(rekey.rekey)
commands.command(rich_help_panel="Files")(files.seal)
commands.command("open", rich_help_panel="Files")(files.open_)
commands.command(rich_help_panel="Erasure")(erasure.shred)
commands.add_typer(erasure.erasures, name="erasures", rich_help_panel="Erasure")
commands.command(rich_help_panel="Audit")(access.access)
commands.add_typer(ledger.ledger, name="ledger", rich_help_panel="Audit")
commands.command(rich_help_panel="Audit")(evidence.report)
commands.command(rich_help_panel="Audit")(dashboard.dashboard)
sealed_backups.register(database_backups.backups)
commands.add_typer(database_backups.backups, name="backups", rich_help_panel="Backups")
commands.command("verify-receipt", rich_help_panel="Re-encryption")(erasure.verify_receipt)
commands.command(rich_help_panel="Schedules")(schedule.due)
commands.command(rich_help_panel="Schedules")(schedule.rotate)
commands.add_typer(schedule.schedules, name="schedule", rich_help_panel="Schedules")
commands.add_typer(kek.keks, name="kek", rich_help_panel="Keys")
commands.add_typer(tenant.tenants, name="tenant", rich_help_panel="Keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pg-envelope {VERSION}")
        raise typer.Exit


@commands.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def app() -> NoReturn:
    """Run the command line; what goes wrong becomes lines on stderr and an exit code, never a traceback."""
    streams.prepare()
    # This comes before the words are read: if they make no command, the error is for a machine, too.
    output.machine("--json" in sys.argv[1:])
    try:
        code = _code()
        streams.delivered()
    except Exception as error:
        code = _failed(_problem(error))
    sys.exit(code)


def _code() -> int:
    code = commands.narrowed(sys.argv[1:])(standalone_mode=False)
    if code == INTERRUPTED:
        raise Problem("interrupted", hint="What the server had committed by then stays.", exit_code=INTERRUPTED)
    return code if isinstance(code, int) else 0


def _failed(problem: Problem) -> int:
    if problem.exit_code != NO_READER:
        output.print_problem(problem)
    return problem.exit_code


def _problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case typer.Abort():
            return Problem("aborted; nothing was done")
        case OSError():
            return Problem(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        case UnicodeError():
            return usage("an argument, or a file that it names, is not text in UTF-8")
    return _misused(error) if hasattr(error, "format_message") else _our_fault(error)


def _our_fault(error: Exception) -> Problem:
    """Its text could hold a value or a key, so only the place is told."""
    (*_, last) = traceback.extract_tb(error.__traceback__)
    place = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
    return Problem("internal error", detail=place, hint="This is a fault of pg-envelope. Please report it.")


def _misused(error: Exception) -> Problem:
    """Words that make no command."""
    said, code = getattr(error, "format_message", str), getattr(error, "exit_code", FAILED)
    context = getattr(error, "ctx", None)
    help_of = context.command_path if context is not None else "pg-envelope"
    return Problem(str(said()).rstrip("."), hint=f"{help_of} --help", exit_code=USAGE if code == USAGE else FAILED)
