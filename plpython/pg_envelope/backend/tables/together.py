"""Protects tables that foreign keys join, in one transaction: the keys become ones of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.search import references, shared
from pg_envelope.backend.search.references import ForeignKey
from pg_envelope.backend.tables import inspect, locks, refusals
from pg_envelope.backend.tables.options import ProtectArguments
from pg_envelope.backend.tables.protect import protect
from pg_envelope.records import replace

Asked = Mapping[int, ProtectArguments]


def protect_together(host: Host, keys: Keys, asked: Asked) -> None:
    """Protects tables, by their OIDs. Raises what protect() raises; Unsupported for foreign keys that tokens cannot
    carry.
    """
    asked, found = detach(host, asked)
    for oid, arguments in asked.items():
        protect(host, keys, oid, arguments)
    for key in found:
        references.make(host, key)
        host.notice(f"foreign key {key.name} is one of tokens now", hint="docs/search.md tells more.")


def detach(host: Host, asked: Asked) -> tuple[Asked, list[ForeignKey]]:
    """Drops the foreign keys between columns that are to be protected, and returns them.

    The arguments that come back say which columns need a search key in common. Raises Unsupported.
    """
    found = shared.between(references.find(host, asked), asked)
    if not found:
        return asked, []
    tables = {oid: inspect.inspect(host, oid) for oid in sorted(asked)}
    for table in tables.values():
        refusals.check_kind(table)
    locks.exclusive(host, *(table.sql for table in tables.values()))
    found = shared.between(references.find(host, asked), asked)
    tables = {oid: inspect.inspect(host, oid) for oid in asked}
    names, wrong = shared.key_names(host, found, asked, tables)
    _refuse([*wrong, *(reason for key in found for reason in shared.obstacles(key, asked, tables))])
    for key in found:
        references.drop(host, key)
    return {oid: replace(one, shared=_of(oid, names)) for oid, one in asked.items()}, found


def _of(oid: int, names: Mapping[shared.Field, str]) -> dict[str, str]:
    return {column: name for (of, column), name in names.items() if of == oid}


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise errors.Unsupported(
            "foreign keys cannot become ones of tokens; nothing was changed",
            detail="\n".join(f"- {reason}" for reason in reasons),
            hint="Change or drop what is listed, then call it again. docs/search.md says which foreign keys can.",
        )
