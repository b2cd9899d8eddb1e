"""The pg-envelope command."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from pg_envelope_client import output
from pg_envelope_client.commands import (
    database_backups,
    erasure,
    jobs,
    kek,
    keys,
    keys_backup,
    rekey,
    report,
    schedule,
    search,
    secret,
    setup,
    suspension,
    tables,
    tenant,
    verify,
)
from pg_envelope_client.problems import FAILED, USAGE, Problem
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
commands.command(rich_help_panel="Erasure")(erasure.shred)
commands.add_typer(erasure.erasures, name="erasures", rich_help_panel="Erasure")
commands.add_typer(database_backups.backups, name="backups", rich_help_panel="Erasure")
commands.command("verify-receipt", rich_help_panel="Re-encryption")(erasure.verify_receipt)
commands.command(rich_help_panel="Schedules")(schedule.due)
commands.command(rich_help_panel="Schedules")(schedule.rotate)
commands.add_typer(schedule.schedules, name="schedule", rich_help_panel="Schedules")
commands.add_typer(kek.keks, name="kek", rich_help_panel="Keys")
commands.add_typer(tenant.tenants, name="tenant", rich_help_panel="Keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"pg-envelope {version('pg-envelope')}")
        raise typer.Exit


@commands.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def app() -> None:
    """Run the command line; a Problem becomes lines on stderr and an exit code, never a traceback."""
    # This comes first: if the words make no command, the error is for a machine, too.
    output.machine("--json" in sys.argv[1:])
    try:
        code = commands(standalone_mode=False)
    except typer.Abort:
        _fail(Problem("aborted; nothing was done"))
    except Problem as problem:
        _fail(problem)
    except OSError as error:
        _fail(Problem(f"{error.filename}: {error.strerror}" if error.filename else str(error)))
    except Exception as error:
        _fail(_misused(error))
    sys.exit(code if isinstance(code, int) else 0)


def _misused(error: Exception) -> Problem:
    """Words that make no command. Anything else that ends here is a fault of ours, and goes on as it is."""
    said, code = getattr(error, "format_message", None), getattr(error, "exit_code", FAILED)
    if said is None:
        raise error
    context = getattr(error, "ctx", None)
    help_of = context.command_path if context is not None else "pg-envelope"
    return Problem(str(said()).rstrip("."), hint=f"{help_of} --help", exit_code=USAGE if code == USAGE else FAILED)


def _fail(problem: Problem) -> NoReturn:
    output.print_problem(problem)
    sys.exit(problem.exit_code)
