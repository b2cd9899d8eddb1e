"""pg-envelope ledger: the reads of audited columns, checked, shown and exported, without broker or database."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from pg_envelope_client import output
from pg_envelope_client.problems import FAILED, Problem
from pg_envelope_client.registry import Registry

ledger = Registry("The ledger of reads of audited columns: verify, show, export. Works on a copy of the file.")
Ledger = Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="The broker's reads.jsonl, or a copy.")]
Since = Annotated[str, typer.Option(metavar="TIME", help="Only events at or after this time, such as 2026-11-26.")]
User = Annotated[str, typer.Option(metavar="ROLE", help="Only events of this session user.")]
Column = Annotated[str, typer.Option(metavar="NAME", help="Only events of this column: table.column.")]
SHOWN = ("timestamp", "user", "role", "table", "column", "key", "operation", "count", "ip")
EXPORTED = (
    *("timestamp", "event", "user", "outer", "role", "database", "table", "column", "key", "operation", "count", "ip"),
    *("application", "pid", "query_id", "statement", "level", "field", "ring", "seq", "continues", "rows"),
)
# A spreadsheet takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


@ledger.command()
def verify(
    file: Ledger,
    public_key: Annotated[
        str, typer.Option(metavar="KEY", help="The key in reads.jsonl.pub, from where you kept it before.")
    ],
    anchor: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", exists=True, help="Checkpoints that were kept elsewhere; repeatable."),
    ] = None,
) -> None:
    """Check that no line was changed or removed (exit code 1). The checkpoints must lie beside FILE."""
    from pg_envelope import reads_check
    from pg_envelope.checkpoints import PublicKey
    from pg_envelope.errors import BadInput

    try:
        found = reads_check.check(file, PublicKey.parse(public_key), anchor or ())
    except BadInput as error:
        raise Problem(error.message, error.detail, error.hint) from None
    if output.for_machine():
        output.print_json(vars(found))
    else:
        output.say(
            f"{found.lines} lines with {found.events} events; {found.signed} lines are signed, in {found.checkpoints}"
            f" checkpoints; {found.anchored} lines are anchored; {found.open_rings} sessions have not ended."
        )
        for other, count in found.passed_over.items():
            output.say(f"{count} checkpoints of another key, {other}, were passed over: they are of another ledger.")
        for problem in found.problems:
            output.say(problem, style="bold red")
    if found.problems:
        raise typer.Exit(FAILED)


@ledger.command()
def show(file: Ledger, since: Since = "", user: User = "", column: Column = "") -> None:
    """Show who read what. This does not verify."""
    rows = [{**dict.fromkeys(SHOWN), **event} for event in _events(file, since, user, column)]
    output.print_rows(rows, SHOWN, "No reads.")


@ledger.command()
def export(
    file: Ledger,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write. It must not exist.")],
    form: Annotated[
        Format, typer.Option("--format", help="One JSON object a line, or CSV with a header.")
    ] = Format.JSONL,
    since: Since = "",
    user: User = "",
    column: Column = "",
) -> None:
    """Write the reads, each with its last count, for another program. This does not verify."""
    with open(out, "x", encoding="utf-8", newline="") as target:
        write = _write_csv if form is Format.CSV else _write_lines
        count = write(_events(file, since, user, column), target)
    output.done(f"{out} holds {count} events.", events=count)


def _events(file: Path, since: str, user: str, column: str) -> Iterator[dict[str, Any]]:
    from pg_envelope import reads_check

    # A year, or a year with a month, will do.
    begin = _moment(since) or _moment(f"{since}-01") or _moment(f"{since}-01-01")
    if since and begin is None:
        raise Problem(f"{since} is no time", hint="Write it as 2026-11-26 or 2026-11-26T08:30:00+01:00.")
    for event in reads_check.events(file):
        name = f"{event.get('table')}.{event.get('column')}"
        if (
            _is_since(event, begin)
            and (not user or event.get("user") == user)
            and (not column or name == column or name.endswith(f".{column}"))
        ):
            yield event


def _is_since(event: dict[str, Any], begin: datetime | None) -> bool:
    """An event whose time cannot be read counts: nothing may hide."""
    told = _moment(str(event.get("timestamp", "")))
    return begin is None or told is None or told >= begin


def _moment(text: str) -> datetime | None:
    """Returns a time of ISO 8601. Without a zone it is in UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _write_lines(events: Iterator[dict[str, Any]], target: TextIO) -> int:
    count = 0
    for count, event in enumerate(events, 1):  # noqa: B007 -- the last one is the result
        target.write(json.dumps(event) + "\n")
    return count


def _write_csv(events: Iterator[dict[str, Any]], target: TextIO) -> int:
    writer = csv.writer(target)
    writer.writerow(EXPORTED)
    count = 0
    for count, event in enumerate(events, 1):  # noqa: B007 -- the last one is the result
        writer.writerow([_cell(event.get(name)) for name in EXPORTED])
    return count


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
