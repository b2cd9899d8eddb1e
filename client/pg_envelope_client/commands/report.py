"""pg-envelope columns and status: what is protected, and whether all is well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import FAILED

SHOWN = ("relation", "column", "type", "bind", "suite", "pad", "kek", "key_version")
Checks = Sequence[output.Row]


def columns(dsn: Dsn = None) -> None:
    """List protected columns."""
    rows = _fetch(dsn, statements.COLUMNS)
    output.print_rows(rows, SHOWN, "No protected columns. Next: pg-envelope protect TABLE COLUMN")


def status(dsn: Dsn = None) -> None:
    """Check extension, broker, KMS and tables; exit code 1 if a check failed."""
    show_checks(_fetch(dsn, statements.STATUS))


def show_checks(checks: Checks) -> None:
    """Print checks (check_name, state, detail, hint) and what to do next; exits with 1 if one failed."""
    output.print_rows(checks, ("check_name", "state", "detail"), "No checks.")
    _print_next(checks)
    if any(check["state"] == "failed" for check in checks):
        raise typer.Exit(FAILED)


def _print_next(checks: Checks) -> None:
    todo = [check for check in checks if check["state"] != "ok" and check["hint"]]
    if todo:
        output.say("\nWhat to do next:", style="bold")
    for check in todo:
        output.say(f"- {check['check_name']}: {check['hint']}")


def _fetch(dsn: str | None, statement: statements.Query) -> list[dict[str, Any]]:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        return server.rows(statement)
