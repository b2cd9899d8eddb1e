"""The pg-envelope command."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from pg_envelope_client import output
from pg_envelope_client.commands import kek, keys, report, setup, tables
from pg_envelope_client.problems import Problem

commands = typer.Typer(
    help="Column-level envelope encryption inside PostgreSQL, with keys in HashiCorp Vault or OpenBao.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
commands.command(rich_help_panel="Set up")(setup.init)
commands.command(rich_help_panel="Set up")(setup.broker)
commands.command(rich_help_panel="Tables")(tables.protect)
commands.command(rich_help_panel="Tables")(tables.unprotect)
commands.command(rich_help_panel="Tables")(tables.reencrypt)
commands.command(rich_help_panel="Tables")(report.columns)
commands.command(rich_help_panel="Tables")(report.status)
commands.add_typer(keys.keys, name="key", rich_help_panel="Keys")
commands.add_typer(kek.keks, name="kek", rich_help_panel="Keys")


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
    try:
        commands()
    except Problem as problem:
        _fail(problem)
    except OSError as error:
        _fail(Problem(f"{error.filename}: {error.strerror}" if error.filename else str(error)))


def _fail(problem: Problem) -> NoReturn:
    output.print_problem(problem)
    sys.exit(problem.exit_code)
