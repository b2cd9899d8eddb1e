"""Carries out access(): the matrix of roles and protected columns, computed and proved."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.access import facts, matrix
from pg_envelope.backend.access.matrix import RoleAccess
from pg_envelope.backend.access.proof import NO_VALUE, NOT_TRIED, ColumnProof
from pg_envelope.backend.host import Host, Row

# PostgreSQL's own roles are ways to a value, and nobody logs in as one of them.
PREDEFINED = "pg_"


def access(host: Host, *, proof: bool) -> list[Row]:
    """Returns a row per role and protected column. With `proof` it reads a few values as each role."""
    return [row for column in facts.columns(host) for row in _of_column(host, column, proof=proof)]


def _of_column(host: Host, column: Row, *, proof: bool) -> Iterator[Row]:
    roles, definers = facts.roles(host, column), facts.definers(host, column)
    found = matrix.compute(roles, facts.views(host, column), facts.edges(host, column), definers)
    tried = ColumnProof(host, column, column["search_names"]) if proof else None
    for name, access in found.items():
        if name.startswith(PREDEFINED):
            continue
        yield {
            "role": name,
            "relation": column["view_name"],
            "column": column["column"],
            "access": access.best,
            "paths": list(access.found),
            **_proved(access, tried),
        }


def _proved(access: RoleAccess, tried: ColumnProof | None) -> Row:
    proved = tried.of(access.facts) if tried else None
    differs = proved not in (None, NO_VALUE, NOT_TRIED, access.direct)
    finding = f"computed {access.direct}, proved {proved}" if differs else None
    return {"direct": access.direct, "proved": proved, "finding": finding}
