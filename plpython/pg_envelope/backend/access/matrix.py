"""Computes who gets what of a protected column, and by which paths."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.access.levels import CLEAR, MASKED, NONE, READ, SEARCH_ONLY, best, is_more
from pg_envelope.backend.access.views import ViewGraph
from pg_envelope.backend.host import Row
from pg_envelope.records import dataclass, field


@dataclass
class RoleAccess:
    """What one role gets of a column: `direct` by its own SELECT, and `found` by each path, with what that gives."""

    facts: Row
    direct: str
    found: dict[str, str] = field(default_factory=dict)

    def gains(self, made: Row, level: str, *, own_right: bool) -> bool:
        """Tells whether a view or function is a path: it reads with another's right, or gives more than `direct`."""
        if self.facts["role"] not in made["users"] or level not in READ:
            return False
        return (not own_right and self.facts["role"] != made["owner"]) or is_more(level, self.direct)

    @property
    def best(self) -> str:
        return best([self.direct, *self.found.values()])


def compute(roles: list[Row], views: list[Row], edges: list[Row], definers: list[Row]) -> dict[str, RoleAccess]:
    """Returns the access of each role, by its name."""
    graph = ViewGraph(views, edges, {row["role"] for row in roles if row["sees_mask"]})
    made = {row["role"]: RoleAccess(row, _direct(row)) for row in roles}
    for access in made.values():
        access.found |= dict.fromkeys(_own_paths(access), access.direct)
    for access in made.values():
        if not access.facts["is_superuser"]:
            access.found |= dict(_views(access, graph, views)) | dict(_functions(access, made, definers))
    _become(made)
    return made


def _direct(role: Row) -> str:
    if role["reads"]:
        return MASKED if role["sees_mask"] else CLEAR
    return SEARCH_ONLY if role["searches"] else NONE


def _own_paths(access: RoleAccess) -> Iterator[str]:
    role = access.facts
    if access.direct == NONE:
        return
    if role["is_superuser"]:
        yield "superuser"
        return
    if role["owns"]:
        yield "owner" if role["is_owner"] else "member of the owner"
    if role["reads_all"]:
        yield "pg_read_all_data"
    for grantee in role["grantees"]:
        yield _grant(role, grantee)
    if access.direct == SEARCH_ONLY:
        yield "search column"
    if role["bypasses_rls"]:
        yield "BYPASSRLS"


def _grant(role: Row, grantee: str) -> str:
    if grantee == role["role"]:
        return "grant"
    return "grant to PUBLIC" if grantee == "PUBLIC" else f"member of {grantee}"


def _views(access: RoleAccess, graph: ViewGraph, views: list[Row]) -> Iterator[tuple[str, str]]:
    for view in views:
        level = graph.level(access.facts["role"], view["oid"])
        if access.gains(view, level, own_right=view["by_user"]):
            yield f"{'materialized view' if view['is_copy'] else 'view'} {view['name']}", level


def _functions(access: RoleAccess, every: dict[str, RoleAccess], definers: list[Row]) -> Iterator[tuple[str, str]]:
    for function in definers:
        level = _level(every, function["owner"])
        if access.gains(function, level, own_right=False):
            yield f"function {function['name']}", level


def _level(every: dict[str, RoleAccess], owner: str) -> str:
    return every[owner].direct if owner in every else NONE


def _become(every: dict[str, RoleAccess]) -> None:
    """Adds SET ROLE where it gives more than the role has."""
    before = {name: access.best for name, access in every.items()}
    for name, access in every.items():
        if access.facts["is_superuser"]:
            continue
        for other in access.facts["becomes"]:
            if other in before and is_more(before[other], before[name]):
                access.found[f"SET ROLE {other}"] = before[other]
