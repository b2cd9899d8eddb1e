"""pg-envelope access: which roles can read protected columns, by which paths, and what changed since a review."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import FAILED, Problem

SHOWN = ("role", "relation", "column", "access", "paths", "finding")
CHANGED = ("role", "relation", "column", "before", "now")
Row = dict[str, Any]
Key = tuple[str, str, str]


def access(
    diff: Annotated[
        Path | None, typer.Option("--diff", metavar="OLD.json", help="Only what differs from an earlier --json.")
    ] = None,
    proof: Annotated[bool, typer.Option(help="Read a few values as each role, to prove what is computed.")] = True,
    every: Annotated[bool, typer.Option("--all", help="Also roles without any access.")] = False,
    dsn: Dsn = None,
) -> None:
    """List who can read protected columns; exit code 1 where proof and catalogs differ, or something changed."""
    before = None if diff is None else _load(diff)
    rows = _rows(proof, dsn)
    changes = None if before is None else list(_changes(before, rows))
    if changes is not None:
        output.print_rows(changes, CHANGED, "Nothing changed.")
    else:
        shown = rows if every or output.for_machine() else [row for row in rows if row["access"] != "none"]
        output.print_rows([{**row, "paths": ", ".join(row["paths"])} for row in shown], SHOWN, "Nobody reads anything.")
    if changes or any(row["finding"] for row in rows):
        raise typer.Exit(FAILED)


def _rows(proof: bool, dsn: str | None) -> list[Row]:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        return list(server.rows(statements.access(proof)))


def _load(path: Path) -> list[Row]:
    """Reads what an earlier call printed. Raises Problem."""
    try:
        rows = json.loads(path.read_text())
        if not isinstance(rows, list):
            raise TypeError
        _ = [(_key(row), _told(row)) for row in rows]
    except (OSError, ValueError, LookupError, TypeError) as error:
        hint = "It takes a file that pg-envelope access --json wrote."
        raise Problem(f"{path} cannot be read", detail=type(error).__name__, hint=hint) from None
    return rows


def _key(row: Row) -> Key:
    return row["role"], row["relation"], row["column"]


def _told(row: Row | None) -> str:
    """Returns a role's access as one text, in which a path that comes or goes is a change."""
    if row is None or row["access"] == "none":
        return "none"
    paths = row["paths"]
    return f"{row['access']}: {paths if isinstance(paths, str) else ', '.join(paths)}"


def _changes(before: list[Row], now: list[Row]) -> Iterator[Row]:
    old, new = ({_key(row): row for row in rows} for rows in (before, now))
    for key in sorted(old.keys() | new.keys()):
        one, other = _told(old.get(key)), _told(new.get(key))
        if one != other:
            yield {**dict(zip(CHANGED, key, strict=False)), "before": one, "now": other}
