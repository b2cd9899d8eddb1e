"""Moves privileges, comments and ownership between a table and the view that takes its name."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident, literal
from pg_envelope.backend.tables.owner import AsOwner

RELATION_ACL = """
SELECT NULL AS column, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee,
    a.grantee AS grantee_oid, a.grantor, a.grantor = c.relowner AS by_owner,
    a.privilege_type AS privilege, a.is_grantable
FROM pg_catalog.pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE c.oid = $1
ORDER BY 2, 6"""

COLUMN_ACL = """
SELECT t.attname AS column, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee,
    a.grantee AS grantee_oid, a.grantor, a.grantor = c.relowner AS by_owner,
    a.privilege_type AS privilege, a.is_grantable
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a
WHERE c.oid = $1 AND t.attnum > 0 AND NOT t.attisdropped ORDER BY 1, 2, 6"""

ROUTINE_ACL = """
SELECT NULL AS column, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee,
    a.grantee AS grantee_oid, a.grantor, a.grantor = f.proowner AS by_owner,
    a.privilege_type AS privilege, a.is_grantable
FROM pg_catalog.pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a WHERE f.oid = $1
ORDER BY 2, 6"""
Reader = Callable[[Host, int], list[Row]]


def read(host: Host, oid: int) -> list[Row]:
    """Returns every privilege on a relation and its columns, also the owner's own."""
    return host.rows(RELATION_ACL, ["oid"], [oid]) + host.rows(COLUMN_ACL, ["oid"], [oid])


def read_routine(host: Host, oid: int) -> list[Row]:
    """Returns every privilege on a function or procedure, in the form of read()."""
    return host.rows(ROUTINE_ACL, ["oid"], [oid])


def revoke_all(host: Host, oid: int, sql: str, keep: Collection[str] = (), read: Reader = read) -> None:
    """Takes all privileges from PUBLIC and all roles but `keep`. A relation's REVOKE also takes column privileges."""
    for grantee in {row["grantee"] for row in read(host, oid)} - set(keep):
        host.run(f"REVOKE ALL ON {sql} FROM {role(grantee)} CASCADE")


def give(host: Host, oid: int, sql: str, wanted: list[Row], read: Reader = read) -> None:
    """Grants exactly these privileges, each by its grantor, so that a later REVOKE ... CASCADE reaches as far.

    `read` is read_routine() for a function, whose `sql` begins with FUNCTION or PROCEDURE.
    """
    if read(host, oid) == wanted:
        return
    revoke_all(host, oid, sql, read=read)
    waiting = wanted
    while waiting:
        # A grantor other than the owner first needs the grant option that the grantor used.
        ready = [row for row in waiting if row["by_owner"] or not any(_enables(other, row) for other in waiting)]
        if not ready:
            raise errors.Unsupported(f"the privileges on {sql} were granted in a circle")
        for row in ready:
            _grant(host, sql, row)
        waiting = [row for row in waiting if row not in ready]


def _enables(other: Row, row: Row) -> bool:
    """Tells whether `row` was granted by virtue of `other`."""
    same = other["privilege"] == row["privilege"] and other["column"] in (None, row["column"])
    return bool(same and other["is_grantable"] and other["grantee_oid"] == row["grantor"])


def _grant(host: Host, sql: str, row: Row) -> None:
    columns = f" ({ident(row['column'])})" if row["column"] else ""
    option = " WITH GRANT OPTION" if row["is_grantable"] and row["grantee"] else ""
    statement = f"GRANT {row['privilege']}{columns} ON {sql} TO {role(row['grantee'])}{option}"
    if row["by_owner"]:
        host.run(statement)
    else:
        AsOwner(host, row["grantor"]).run(statement)


def role(name: str | None) -> str:
    return ident(name) if name else "PUBLIC"


def comment(host: Host, what: str, text: str | None) -> None:
    """Sets COMMENT ON `what`; None removes it."""
    host.run(comment_on(what, text))


def comment_on(what: str, text: str | None) -> str:
    return f"COMMENT ON {what} IS {'NULL' if text is None else literal(text)}"
