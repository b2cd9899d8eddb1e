"""pg-envelope lint: statements that would decrypt a whole table, and what to write in their place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import FAILED, Problem, usage

if TYPE_CHECKING:
    from pg_envelope_client.lint.findings import Remark
    from pg_envelope_client.lint.sources import PlacedStatement

SHOWN = ("place", "column", "what", "instead")
NO_STATEMENTS = "42P01"
Found = list[tuple["PlacedStatement", list["Remark"]]]

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help="SQL files, Python sources, logs (.log), or folders of .sql and .py files."),
]
Statements = Annotated[bool, typer.Option("--statements", help="Also what runs today, by pg_stat_statements.")]
Rewrite = Annotated[bool, typer.Option("--rewrite", help="Print each statement as it should be.")]
Catalog = Annotated[
    Path | None,
    typer.Option("--catalog", metavar="FILE", help="What is protected, from --save-catalog; no server is asked."),
]
SaveCatalog = Annotated[
    Path | None,
    typer.Option("--save-catalog", metavar="FILE", help="Write what is protected into a file, for machines of CI."),
]


def lint(
    files: Files = None,
    run_statements: Statements = False,
    rewrite: Rewrite = False,
    catalog: Catalog = None,
    save_catalog: SaveCatalog = None,
    dsn: Dsn = None,
) -> None:
    """Find statements that decrypt each row of a table; exit code 1 if there are some."""
    if not files and not run_statements and save_catalog is None:
        raise usage("there is nothing to look at", hint="Name files or folders, or give --statements.")
    if catalog is not None and run_statements:
        raise usage("--statements asks the server, and --catalog asks none")
    columns, sources = _asked(catalog, run_statements, dsn)
    if save_catalog is not None:
        save_catalog.write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")
    found = _found(columns, [*_of_files(files or []), *sources])
    _show_rewritten(found) if rewrite else _show(found)
    if found:
        raise typer.Exit(FAILED)


def _asked(
    catalog: Path | None, run_statements: bool, dsn: str | None
) -> tuple[list[dict[str, Any]], list[PlacedStatement]]:
    """Returns the protected columns, and the statements that the server has run."""
    from pg_envelope_client.database import session

    if catalog is not None:
        return _read(catalog), []
    with session(dsn) as server:
        columns = server.rows(statements.LINTED)
        return columns, _of_server(server) if run_statements else []


def _read(catalog: Path) -> list[dict[str, Any]]:
    try:
        columns = json.loads(catalog.read_text(encoding="utf-8"))
    except ValueError:
        columns = None
    names = {"schema", "relation", "column", "search_column", "normalizer", "search_key", "primary_key"}
    if not isinstance(columns, list) or not all(isinstance(one, dict) and names <= one.keys() for one in columns):
        raise Problem(f"{catalog} is no catalog", hint="Write it with: pg-envelope lint --save-catalog FILE")
    return columns


def _of_server(server: Any) -> list[PlacedStatement]:
    from psycopg.errors import UndefinedTable

    from pg_envelope_client.lint.sources import PlacedStatement

    try:
        rows = server.rows(statements.RUN_STATEMENTS)
    except UndefinedTable:
        raise Problem(
            "pg_stat_statements is not installed in this database",
            hint="Set shared_preload_libraries = 'pg_stat_statements', restart, CREATE EXTENSION pg_stat_statements.",
        ) from None
    return [
        PlacedStatement(f"query {row['queryid']} ({row['calls']} calls, {row['seconds']:.1f} s)", 1, row["query"])
        for row in rows
    ]


def _of_files(files: Sequence[Path]) -> list[PlacedStatement]:
    from pg_envelope_client.lint.sources import of_folder

    return [source for path in files for source in of_folder(path)]


def _found(columns: list[dict[str, Any]], sources: Sequence[PlacedStatement]) -> Found:
    from pg_envelope_client.lint.protected import from_rows
    from pg_envelope_client.lint.walk import found_in

    protected = from_rows(columns)
    found = ((source, found_in(source.text, protected)) for source in sources)
    return [(source, findings) for source, findings in found if findings]


def _show(found: Found) -> None:
    rows = [
        {
            "place": source.at(one.offset),
            "column": one.column,
            "what": one.what,
            "instead": one.instead,
            "can_be_rewritten": bool(one.edits),
        }
        for source, findings in found
        for one in findings
    ]
    output.print_rows(rows, SHOWN, "No statement decrypts a whole table.")
    if any(row["can_be_rewritten"] for row in rows):
        output.say("\nThe statements with search columns: add --rewrite")


def _show_rewritten(found: Found) -> None:
    from pg_envelope_client.lint.findings import rewritten

    rows: list[dict[str, Any]] = [
        {"place": source.at(0), "statement": rewritten(source.text, findings), "left": _left(findings)}
        for source, findings in found
    ]
    if output.for_machine():
        output.print_json(rows)
        return
    for row in rows:
        output.say(f"-- {row['place']}", style="bold")
        for left in row["left"]:
            output.say(f"-- {left}", style="yellow")
        output.say(f"{row['statement'].strip().rstrip(';')};\n")


def _left(findings: Sequence[Remark]) -> list[str]:
    return [f"{one.column} {one.what}. {one.instead}" for one in findings if not one.edits]
