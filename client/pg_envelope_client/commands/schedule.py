"""pg-envelope due, rotate --due and schedule: keys that are rotated by schedule."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import usage
from pg_envelope_client.registry import Registry

schedules = Registry("How often keys are rotated: list, set.")


class Level(StrEnum):
    """A level of rotation."""

    KEK = "kek"
    DEK = "dek"
    FIELD_KEY = "field_key"
    SECRET = "secret"  # noqa: S105


SHOWN = ("level", "subject", "last_rotated", "due_at", "overdue")
SCHEDULE = ("level", "subject", "every", "transition", "grace", "reencrypt")
Interval = typer.Option(metavar="INTERVAL", help="As in SQL: '90 days'.")


def due(dsn: Dsn = None) -> None:
    """List when each key is due for rotation, and which are overdue."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        output.print_rows(server.rows(statements.DUE), SHOWN, "No keys have a schedule.")


def rotate(
    is_due: Annotated[bool, typer.Option("--due", help="Rotate all that `pg-envelope due` shows as due.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    dsn: Dsn = None,
) -> None:
    """Rotate all keys that are due: for cron and systemd timers. One key or table: pg-envelope key rotate NAME."""
    from pg_envelope_client.database import session

    if not is_due:
        raise usage(
            "nothing to rotate", hint="All that is due: pg-envelope rotate --due. One: pg-envelope key rotate NAME"
        )
    with session(dsn) as server:
        before = server.rows(statements.DUE_NOW)
        server.run(statements.rotate_due(dry_run))
        if output.for_machine():
            output.print_json({"due": before, "still_due": server.rows(statements.DUE_NOW)})


@schedules.command("list")
def list_schedules(dsn: Dsn = None) -> None:
    """List how often keys are rotated."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        output.print_rows(server.rows(statements.SCHEDULES), SCHEDULE, "No schedules.")


@schedules.command("set")
def set_schedule(
    level: Annotated[Level, typer.Argument(metavar="LEVEL", help="kek, dek, field_key or secret.")],
    every: Annotated[str, typer.Argument(metavar="INTERVAL|never", help="As in SQL: '90 days'.")],
    subject: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="One KEK, named key or table (with its schema).")
    ] = None,
    transition: Annotated[str | None, Interval] = None,
    grace: Annotated[str | None, Interval] = None,
    reencrypt: Annotated[bool | None, typer.Option("--reencrypt/--no-reencrypt")] = None,
    dsn: Dsn = None,
) -> None:
    """Set how often keys of a level are rotated; an option that is left out changes nothing."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        wanted = None if every == "never" else every
        server.run(statements.set_schedule(level.value, wanted, subject, transition, grace, reencrypt))
    sentence = f"{subject or 'All'}, level {level.value}: {every}. Next: pg-envelope due"
    output.done(sentence, level=level.value, subject=subject, every=wanted)
