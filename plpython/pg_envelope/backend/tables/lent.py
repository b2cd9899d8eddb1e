"""Lends a role rights for statements of the package that run as this role. Nobody else ever sees them granted.

PostgreSQL keeps the rights to an object in one row. Who changes that row has it to the end of the transaction, and the
next one waits and then fails. So a right is lent in short tries, before anything that many need is locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import locks
from pg_envelope.backend.tables.leftovers import LeftBehind

LACKS = """
SELECT quote_ident(pg_get_userbyid($1)) AS role WHERE NOT has_schema_privilege($1, $2::text, 'CREATE')"""
# About an hour, for a step that holds nothing yet for which others wait.
LONG = locks.Tries(3000, 1000)
# Of this role alone: at the same time others may create what they like.
MEMBERS = """
SELECT d.classid, d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_shdepend s USING (classid, objid)
WHERE d.refclassid = 'pg_namespace'::regclass AND s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o'
    AND d.refobjid = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $2)
    AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AND s.refobjid = $1"""


class RightsInUse(errors.EnvelopeError):
    """Another transaction changed rights to the same object, and has not ended."""

    sqlstate = locks.LOCK_NOT_AVAILABLE
    text = "another transaction changes the same rights"
    default_hint = "It protects another table, or makes its search columns. Wait for its end, and call again."


@contextmanager
def rights(host: Host, role: str, lacked: Sequence[str], tries: locks.Tries = locks.PATIENT) -> Iterator[None]:
    """Lends rights, such as "USAGE ON SCHEMA s", to a role, by its quoted name. Raises RightsInUse."""
    if lacked:
        in_turn(host, {right: f"GRANT {right} TO {role}" for right in lacked}, tries)
    # After an error the transaction ends, or the subtransaction, so no grant is left.
    yield
    for right in lacked:
        host.run(f"REVOKE {right} FROM {role}")


def in_turn(host: Host, statements: Mapping[str, str], tries: locks.Tries = locks.PATIENT) -> None:
    """Runs statements that change rights, by what they change, while no other transaction does. Raises RightsInUse."""
    try:
        locks.held(host, statements, tries)
    except locks.Locked as error:
        raise RightsInUse(detail=error.detail) from None


@contextmanager
def create(host: Host, role: int, schema: str, made: int = 0) -> Iterator[None]:
    """Lets a role, by its OID, create `made` objects in a schema.

    A statement reads text that the role wrote, and code of the role can run meanwhile. So what else appears in the
    schema is refused. Raises LeftBehind, RightsInUse.
    """
    lacks = host.row(LACKS, ["oid", "name"], [role, schema])
    if lacks is None:
        yield
        return
    with rights(host, lacks["role"], [f"CREATE ON SCHEMA {ident(schema)}"]):
        before = _members(host, role, schema)
        yield
        if len(_members(host, role, schema) - before) > made:
            raise LeftBehind(detail=f"It made objects in schema {schema}.")


def _members(host: Host, role: int, schema: str) -> set[tuple[int, int]]:
    """Returns what the role owns in the schema."""
    return {(row["classid"], row["objid"]) for row in host.rows(MEMBERS, ["oid", "name"], [role, schema])}
