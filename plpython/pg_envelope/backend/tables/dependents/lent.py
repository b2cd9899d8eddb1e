"""Lends the owner of a dependent the right to create in its schema, for one statement of the package.

The statement reads text that the owner wrote, and code of the owner can run meanwhile. So what else appears in the
schema is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.leftovers import LeftBehind

LACKS = """
SELECT quote_ident(pg_get_userbyid($1)) AS role WHERE NOT has_schema_privilege($1, $2::text, 'CREATE')"""
MEMBERS = """
SELECT classid, objid FROM pg_catalog.pg_depend
WHERE refclassid = 'pg_namespace'::regclass
    AND refobjid = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1)"""


@contextmanager
def create(host: Host, role: int, schema: str, made: int = 0) -> Iterator[None]:
    """Lets a role, by its OID, create `made` objects in a schema. Raises LeftBehind when it creates more."""
    lacks = host.row(LACKS, ["oid", "name"], [role, schema])
    if lacks is None:
        yield
        return
    where = f"CREATE ON SCHEMA {ident(schema)}"
    before = _members(host, schema)
    host.run(f"GRANT {where} TO {lacks['role']}")
    # After an error the transaction ends, or the subtransaction, so no grant is left.
    yield
    if len(_members(host, schema) - before) > made:
        raise LeftBehind(detail=f"It made objects in schema {schema}.")
    host.run(f"REVOKE {where} FROM {lacks['role']}")


def _members(host: Host, schema: str) -> set[tuple[int, int]]:
    return {(row["classid"], row["objid"]) for row in host.rows(MEMBERS, ["name"], [schema])}
