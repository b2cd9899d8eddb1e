"""Looks whether a restored database works: its state, and every value in it."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope_client import statements
from pg_envelope_client.backups.scratch import ScratchCluster
from pg_envelope_client.database import session

Row = dict[str, str | None]
BATCH = 1000
SHOWN = 5


def row(name: str, state: str, detail: str, hint: str | None = None) -> Row:
    return {"check_name": name, "state": state, "detail": detail, "hint": hint}


def all_databases(cluster: ScratchCluster) -> list[Row]:
    """Returns a row for each check that is not ok, and for the values of each database. Raises Problem."""
    with session(cluster.dsn("template1"), _quiet) as server:
        names = [str(found["datname"]) for found in server.rows(statements.DATABASES)]
    found = [one for name in names for one in _database(cluster, name)]
    return found or [row("databases", "failed", "the backup has no database with pg_envelope in it")]


def _database(cluster: ScratchCluster, name: str) -> Iterator[Row]:
    with session(cluster.dsn(name), _quiet) as server:
        if not server.value(statements.HAS_EXTENSION):
            return
        for check in server.rows(statements.STATUS):
            if check["state"] != "ok":
                yield row(f"{name}: {check['check_name']}", check["state"], check["detail"], check["hint"])
        server.run(statements.verify(None, BATCH, 0, True))
        tables = server.rows(statements.verifications(None))
        bad = server.rows(statements.faults(None))
    told = "; ".join(f"{fault['relation']}.{fault['column']}: {fault['reason']}" for fault in bad[:SHOWN])
    values = f"{len(bad)} values do not open: {told}" if bad else f"every value opens, in {len(tables)} tables"
    yield row(f"{name}: values", "failed" if bad else "ok", values)


def _quiet(_: str) -> None:
    """The notices of a walk over all tables are of no interest here."""
