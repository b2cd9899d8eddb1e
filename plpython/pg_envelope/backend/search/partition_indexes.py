"""Gives the indexes of partitions their names again. PostgreSQL makes up names where it makes an index anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pg_envelope.backend.host import Host
from pg_envelope.backend.search.carried import Carried
from pg_envelope.backend.sqltext import derived_name, ident
from pg_envelope.backend.tables.dependents.statistics import Statistics
from pg_envelope.typed import NamedTuple

NOW = """
SELECT format('%I.%I', n.nspname, t.relname) AS partition, quote_ident(m.nspname) AS schema, x.relname AS name
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
CROSS JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) p
JOIN pg_catalog.pg_index b ON b.indexrelid = p.relid JOIN pg_catalog.pg_class x ON x.oid = p.relid
JOIN pg_catalog.pg_namespace m ON m.oid = x.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = b.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE i.indrelid = $1 AND c.relname = $2 AND p.relid <> c.oid"""
TAKEN = "SELECT to_regclass($1) IS NOT NULL AS taken"


class Renaming(NamedTuple):
    schema: str
    old: str
    new: str


def rename(host: Host, base: int, recorded: Iterable[Carried]) -> None:
    """Takes two steps, because indexes may have exchanged their names. A name that is taken is left to who has it."""
    found = [one for index in recorded for one in _renamings(host, base, index)]
    aside = [one._replace(new=derived_name(one.old, "_pg_envelope_aside")) for one in found]
    for one in aside:
        _rename(host, one)
    for wanted, now in zip(found, aside, strict=True):
        row = host.row(TAKEN, ["text"], [f"{wanted.schema}.{ident(wanted.new)}"])
        _rename(host, wanted._replace(old=now.new, new=wanted.old if row and row["taken"] else wanted.new))


def _renamings(host: Host, base: int, index: Carried) -> Iterator[Renaming]:
    if isinstance(index, Statistics):
        return
    for row in host.rows(NOW, ["oid", "name"], [base, index.name]):
        wanted = index.of_partitions.get(row["partition"], row["name"])
        if wanted != row["name"]:
            yield Renaming(row["schema"], row["name"], wanted)


def _rename(host: Host, one: Renaming) -> None:
    host.run(f"ALTER INDEX {one.schema}.{ident(one.old)} RENAME TO {ident(one.new)}")
