"""pg-envelope tenant: a KEK of its own, and taking a table's or tenant's keys away and giving them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn, StoreName, Table
from pg_envelope_client.registry import Registry

if TYPE_CHECKING:
    from pg_envelope_client.statements import Statement

tenants = Registry("Tenants: keys under a KEK of their own; revoke and restore the keys of a table or tenant.")
Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="The value of the table's tenant column.")]
AnyTenant = Annotated[
    str | None, typer.Argument(metavar="[TENANT]", help="Default: the one key of a table without tenants.")
]


@tenants.command("kek")
def own_kek(
    table: Table,
    tenant: Tenant,
    kek: Annotated[str, typer.Argument(metavar="KEK", help="As named in the broker's configuration.")],
    store: StoreName = None,
    new: Annotated[bool, typer.Option("--new", help="The tenant has no row yet.")] = False,
    dsn: Dsn = None,
) -> None:
    """Make a tenant's next keys under a KEK of its own; those that exist follow with `pg-envelope kek move`."""
    _run(statements.tenant_kek(table, tenant, kek, store and store.value, new), dsn)
    older = f"Older ones: pg-envelope kek move ... --tenant {tenant}"
    output.done(f"New keys of {tenant} are made under KEK {kek}. {older}", table=table, tenant=tenant, kek=kek)


@tenants.command()
def revoke(
    table: Table,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="It goes to the audit log.")],
    tenant: AnyTenant = None,
    dsn: Dsn = None,
) -> None:
    """Suspend the keys: from now on nobody reads or writes their values, until `restore`."""
    _run(statements.revoke_table(table, tenant, reason), dsn)
    output.done(f"The keys of {_of(table, tenant)} are suspended.", table=table, tenant=tenant)


@tenants.command()
def restore(
    table: Table,
    tenant: AnyTenant = None,
    version: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Only this one, also if it was retired. Default: all others.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Give suspended keys back; retired versions only by their number."""
    _run(statements.restore_table(table, tenant, version), dsn)
    output.done(f"The keys of {_of(table, tenant)} are back.", table=table, tenant=tenant)


def _of(table: str, tenant: str | None) -> str:
    return table if tenant is None else f"{tenant} in {table}"


def _run(statement: Statement, dsn: str | None) -> None:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        server.run(statement)
