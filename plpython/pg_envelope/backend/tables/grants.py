"""Privileges, comments and ownership, moved between a table and the view that takes its name."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident, literal

RELATION_ACL = """
SELECT NULL AS column, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee,
    a.privilege_type AS privilege, a.is_grantable
FROM pg_catalog.pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1 ORDER BY 2, 3"""

COLUMN_ACL = """
SELECT t.attname AS column, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee,
    a.privilege_type AS privilege, a.is_grantable
FROM pg_catalog.pg_attribute t, aclexplode(t.attacl) a WHERE t.attrelid = $1 AND t.attnum > 0 AND NOT t.attisdropped
ORDER BY 1, 2, 3"""


def read(host: Host, oid: int) -> list[Row]:
    """Every privilege on a relation and its columns, the owner's own too when they were ever changed."""
    return host.rows(RELATION_ACL, ["oid"], [oid]) + host.rows(COLUMN_ACL, ["oid"], [oid])


def revoke_all(host: Host, oid: int, sql: str, keep: str | None = None) -> None:
    """Takes all privileges from all but `keep`; column privileges go with the relation's."""
    for grantee in {row["grantee"] for row in read(host, oid)} - {keep}:
        host.run(f"REVOKE ALL ON {sql} FROM {_role(grantee)} CASCADE")


def give(host: Host, sql: str, owner: str, rows: list[Row]) -> None:
    """Exactly these privileges, on a relation that nobody but its owner has any on."""
    if any(row["column"] is None for row in rows):
        host.run(f"REVOKE ALL ON {sql} FROM {ident(owner)}")
    for statement in _grants(sql, rows):
        host.run(statement)


def _grants(sql: str, rows: list[Row]) -> Iterator[str]:
    for row in rows:
        columns = f" ({ident(row['column'])})" if row["column"] else ""
        option = " WITH GRANT OPTION" if row["is_grantable"] and row["grantee"] else ""
        yield f"GRANT {row['privilege']}{columns} ON {sql} TO {_role(row['grantee'])}{option}"


def _role(name: str | None) -> str:
    return ident(name) if name else "PUBLIC"


def comment(host: Host, what: str, text: str | None) -> None:
    """COMMENT ON what; None removes it."""
    host.run(f"COMMENT ON {what} IS {'NULL' if text is None else literal(text)}")
