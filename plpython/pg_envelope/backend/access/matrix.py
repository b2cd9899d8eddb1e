"""Computes who gets what of a protected column, and by which paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pg_envelope.backend.host import Row

CLEAR, MASKED, SEARCH_ONLY, NONE = LEVELS = ("clear", "masked", "search only", "none")
READ = (CLEAR, MASKED)


@dataclass
class RoleAccess:
    """What one role gets of a column: `direct` by its own SELECT, and `found` by each path, with what that gives."""

    facts: Row
    direct: str
    found: dict[str, str] = field(default_factory=dict)

    def uses(self, made: Row) -> bool:
        """Tells whether the role may use a view or function of another role."""
        return self.facts["role"] in made["users"] and self.facts["role"] != made["owner"]

    @property
    def best(self) -> str:
        return best([self.direct, *self.found.values()])


def best(levels: list[str]) -> str:
    return min(levels, key=LEVELS.index, default=NONE)


def compute(roles: list[Row], views: list[Row], definers: list[Row]) -> dict[str, RoleAccess]:
    """Returns the access of each role, by its name."""
    made = {row["role"]: RoleAccess(row, _direct(row)) for row in roles}
    for access in made.values():
        access.found |= dict.fromkeys(_own_paths(access), access.direct)
    for access in made.values():
        access.found |= dict(_objects(access, made, views, definers))
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


def _objects(
    access: RoleAccess, every: dict[str, RoleAccess], views: list[Row], definers: list[Row]
) -> Iterator[tuple[str, str]]:
    """Yields what a role gets through objects of others. A role that reads as much by itself needs none of them."""
    if access.facts["is_superuser"]:
        return
    mask = MASKED if access.facts["sees_mask"] else CLEAR
    for view in filter(access.uses, views):
        level = _level(every, view["owner"]) if view["is_copy"] else mask
        if level in READ:
            yield f"{'materialized view' if view['is_copy'] else 'view'} {view['name']}", level
    for function in filter(access.uses, definers):
        level = _level(every, function["owner"])
        if level in READ:
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
            if other in before and LEVELS.index(before[other]) < LEVELS.index(before[name]):
                access.found[f"SET ROLE {other}"] = before[other]
