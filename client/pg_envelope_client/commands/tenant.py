"""pg-envelope tenant: a KEK of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn, StoreName, Table
from pg_envelope_client.registry import Registry

tenants = Registry("Tenants: keys under a KEK of their own.")


@tenants.command("kek")
def own_kek(
    table: Table,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The value of the table's tenant column.")],
    kek: Annotated[str, typer.Argument(metavar="KEK", help="As named in the broker's configuration.")],
    store: StoreName = None,
    new: Annotated[bool, typer.Option("--new", help="The tenant has no row yet.")] = False,
    dsn: Dsn = None,
) -> None:
    """Make a tenant's next keys under a KEK of its own; those that exist follow with `pg-envelope kek move`."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        server.run(statements.tenant_kek(table, tenant, kek, store and store.value, new))
    older = f"Older ones: pg-envelope kek move ... --tenant {tenant}"
    output.done(f"New keys of {tenant} are made under KEK {kek}. {older}", table=table, tenant=tenant, kek=kek)
