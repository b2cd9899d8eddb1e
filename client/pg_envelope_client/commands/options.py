"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from pg_envelope_client.registry import SERVER


class StoreChoice(StrEnum):
    """The store of a wrapped DEK: FORMAT.md section 2.2."""

    VAULT = "vault"
    CATALOG = "catalog"


class ScopeKind(StrEnum):
    """The scope, which tells which values share a DEK: docs/scopes.md."""

    TABLE = "table"
    TENANT = "tenant"
    SUBJECT = "subject"


class ErasedChoice(StrEnum):
    """The answer to a read after the DEK was destroyed: an error or NULL."""

    ERROR = "error"
    NULL = "null"


class DamagedChoice(StrEnum):
    """The treatment of values that nobody can open: an error, or NULL in their place."""

    ERROR = "error"
    NULL = "null"


def max_lag(words: str) -> Any:
    """Makes the option for the WAL that a standby may have to replay. `words` are its help."""
    return typer.Option(min=0, max=2**31 - 1, metavar="MB", help=words)


Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="CONNINFO",
        help="libpq connection string without a password (use ~/.pgpass). Default: PGHOST, PGDATABASE and so on.",
        rich_help_panel=SERVER,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows in one committed batch.")]
Pause = Annotated[int, typer.Option(min=0, metavar="MS", help="Wait so long after each batch.")]
MaxLag = Annotated[int, max_lag("Wait while a standby has more WAL than this to replay; 0 waits for none.")]
Kek = Annotated[str, typer.Option(help="The KEK, as named in the broker's configuration.")]
Table = Annotated[str, typer.Argument(metavar="TABLE", help="Name as in SQL: shop.customer, '\"Odd Name\"'.")]
StoreName = Annotated[
    StoreChoice | None, typer.Option("--store", help="Where the wrapped DEK lives. Default: the KEK's own store.")
]
