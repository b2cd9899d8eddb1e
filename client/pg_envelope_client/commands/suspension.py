"""pg-envelope suspend and unsuspend: the keys of a table or tenant become unusable, and usable again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn, Table

if TYPE_CHECKING:
    from pg_envelope_client.statements import Query

Tenant = Annotated[
    str | None, typer.Argument(metavar="[TENANT]", help="Default: the one key of a table without tenants.")
]


def suspend(
    table: Table,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="The reason; the audit log keeps it.")],
    tenant: Tenant = None,
    dsn: Dsn = None,
) -> None:
    """Suspend the keys: from now on nobody reads or writes their values, until `unsuspend`."""
    _run(statements.suspend_table(table, tenant, reason), dsn)
    output.done(f"The keys of {_of(table, tenant)} are suspended.", table=table, tenant=tenant)


def unsuspend(
    table: Table,
    tenant: Tenant = None,
    version: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", help="Only this version, even if it was retired. Default: all that are not retired."
        ),
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Make suspended keys usable again; a retired version only by its number."""
    _run(statements.unsuspend_table(table, tenant, version), dsn)
    output.done(f"The keys of {_of(table, tenant)} are usable again.", table=table, tenant=tenant)


def _of(table: str, tenant: str | None) -> str:
    return table if tenant is None else f"{tenant} in {table}"


def _run(statement: Query, dsn: str | None) -> None:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        server.run(statement)
