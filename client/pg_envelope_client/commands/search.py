"""pg-envelope search: search columns of a protected column, added, changed and dropped while the table is in use."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import BatchSize, Dsn, MaxLag, Pause, Table
from pg_envelope_client.commands.tables import watched
from pg_envelope_client.problems import FAILED
from pg_envelope_client.registry import Registry

searches = Registry("Search without decrypting: the search columns of protected columns.")

Column = Annotated[str, typer.Argument(metavar="COLUMN", help="The protected column.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Which search column, of several.")]
ADVICE = ("verdict", "advice", "sampled", "different_values", "top_share", "read_share", "min_entropy")
SHOWN = ("relation", "column", "search_column", "normalizer", "search_key", "state")


class SearchKind(StrEnum):
    """The kinds of search columns, as the server names them."""

    EXACT = "exact"
    MATCH = "match"
    CONTAINS = "contains"
    RANGE = "range"


@searches.command("list")
def every(dsn: Dsn = None) -> None:
    """List the search columns."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        output.print_rows(server.rows(statements.SEARCHES), SHOWN, "No search columns.")


@searches.command()
def advise(
    table: Table,
    column: Annotated[str, typer.Argument(metavar="COLUMN", help="Protected already, or not yet.")],
    normalize: Annotated[str, typer.Option(help="What would count of a value, such as email.")] = "exact",
    beside: Annotated[str | None, typer.Option(metavar="COLUMN", help="Another column that is seen, too.")] = None,
    dsn: Dsn = None,
) -> None:
    """Say what the tokens of a column would give away; exit code 1 where protect refuses it."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        (found,) = server.rows(statements.search_advice(table, column, normalize, beside))
    output.print_rows([found], ADVICE, "")
    if found["verdict"] == "REFUSE":
        raise typer.Exit(FAILED)


@searches.command()
def add(
    table: Table,
    column: Column,
    kind: Annotated[SearchKind, typer.Option(help="What the search finds.")] = SearchKind.EXACT,
    normalize: Annotated[str | None, typer.Option(help="What counts of a value, such as email.")] = None,
    bucket: Annotated[str | None, typer.Option(help="Of a range search: day, month, year, or a width.")] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Of a contains search: what it finds. Give it several times."),
    ] = None,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Default: <column>_search.")] = None,
    key: Annotated[str | None, typer.Option(help="A search key to share with other columns.")] = None,
    unique: Annotated[bool, typer.Option("--unique", help="No two rows may have equal values.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where tokens give the values away.")] = False,
    batch_size: BatchSize = 1000,
    pause: Pause = 0,
    max_lag_mb: MaxLag = 64,
    dsn: Dsn = None,
) -> None:
    """Give a protected column a search column, and its rows their tokens."""
    given: dict[str, Any] = {"normalize": normalize, "bucket": bucket, "paths": path, "as": name, "key": key}
    flags = {"unique": unique, "force": force}
    spec = {option: value for option, value in (given | flags).items() if value not in (None, False, [])}
    batches = statements.BatchArguments(batch_size, pause, max_lag_mb)
    query = statements.add_search(table, column, kind.value, spec, batches)
    watched(table, query, f"search add {table} {column}", dsn)
    output.done(f"{table}: column {column} can be searched. See: pg-envelope search list", table=table, column=column)


@searches.command()
def rotate(
    table: Table,
    column: Column,
    name: Name = None,
    normalize: Annotated[str | None, typer.Option(help="Another normaliser. Default: the same.")] = None,
    batch_size: BatchSize = 1000,
    pause: Pause = 0,
    max_lag_mb: MaxLag = 64,
    dsn: Dsn = None,
) -> None:
    """Give a search column another key, and its rows new tokens, while it is searched."""
    batches = statements.BatchArguments(batch_size, pause, max_lag_mb)
    statement = statements.rotate_search(table, column, name, normalize, batches)
    watched(table, statement, f"search rotate {table} {column}", dsn)
    output.done(f"{table}: the search of column {column} has a new key.", table=table, column=column)


@searches.command()
def drop(table: Table, column: Column, name: Name = None, dsn: Dsn = None) -> None:
    """Drop a search column, or give up one that is being made or changed."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        server.run(statements.drop_search(table, column, name))
    output.done(f"{table}: done. What is left: pg-envelope search list", table=table, column=column)
