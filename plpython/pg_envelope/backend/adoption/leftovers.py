"""The columns that held IVs, tags and salts of old values. After an adoption nobody needs them, so they can go."""

from __future__ import annotations

from pg_envelope.backend.adoption.reading import layout_of
from pg_envelope.backend.ddl import exchange, settle
from pg_envelope.backend.host import Host
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import catalog
from pg_envelope.errors import EnvelopeError
from pg_envelope.foreign.apart import parts_beside

FORMATS = """
SELECT a.format, a.beside FROM envelope_private.adoption a JOIN envelope_private.field f USING (field_uuid)
WHERE f.key_uuid = $1"""
# PostgreSQL would drop these without a word, though they also are about columns that stay; or it drops nothing, as for
# a foreign key.
USERS = """
SELECT pg_describe_object('pg_constraint'::regclass, k.oid, 0) AS what FROM pg_catalog.pg_constraint k
WHERE k.conrelid = $1 AND k.conkey && $2::int2[] AND NOT k.conkey <@ $2::int2[]
    OR k.confrelid = $1 AND k.confkey && $2::int2[]
UNION
SELECT pg_describe_object('pg_class'::regclass, i.indexrelid, 0) FROM pg_catalog.pg_index i
WHERE i.indrelid = $1 AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = i.indexrelid AND d.refobjid = $1 AND d.refobjsubid = ANY ($2::int2[]))
    AND (EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
        AND d.refobjid = $1 AND d.refobjsubid > 0 AND d.refobjsubid <> ALL ($2::int2[])))
UNION
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_catalog.pg_depend d
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = ANY ($2::int2[])
    AND (d.classid = ANY ('{pg_policy,pg_statistic_ext}'::regclass[])
        OR d.classid = 'pg_trigger'::regclass AND (
            SELECT NOT t.tgisinternal AND t.tgname !~ '^~?envelope_' FROM pg_catalog.pg_trigger t WHERE t.oid = d.objid)
        OR d.classid = 'pg_attrdef'::regclass AND (
            SELECT a.adnum <> ALL ($2::int2[]) FROM pg_catalog.pg_attrdef a WHERE a.oid = d.objid))
ORDER BY 1"""
# $3 is the table's own view.
READERS = f"""{settle.DEPENDENTS}
    AND d.classid = ANY ('{{pg_rewrite,pg_proc}}'::regclass[]) AND w.ev_class IS DISTINCT FROM $3
ORDER BY 1"""
EXCHANGED = "SELECT * FROM envelope_private.exchange WHERE base = $1"
HINT = (
    "Drop or change what is listed, then call it again. Or leave drop_parts out: the columns stay, and you can drop"
    " them later."
)


class PartsUsed(EnvelopeError):
    """A column with parts of old values cannot be dropped, because something else needs it."""

    sqlstate = "2BP01"


def names(host: Host, found: Place) -> list[str]:
    """Returns the columns with IVs, tags and salts that the protected table itself does not need.

    Columns with associated data are no such: they are columns of the application.
    """
    parts: dict[str, set[str]] = {}
    for row in host.rows(FORMATS, ["uuid"], [found.layout.key_uuid]):
        for part, name in zip(parts_beside(layout_of(row["format"])), row["beside"], strict=True):
            parts.setdefault(name, set()).add(part)
    needed = {*found.layout.row_key, *found.layout.protected, found.layout.scope_column}
    return [name for name, uses in parts.items() if "aad" not in uses and name not in needed]


def statement(found: Place, dropped: list[str]) -> str:
    """Returns the statement that drops them, as their owner would write it."""
    return f"ALTER TABLE {found.view.sql} {commas(f'DROP COLUMN {ident(name)}' for name in dropped)}"


def check(host: Host, found: Place, dropped: list[str]) -> None:
    """Raises PartsUsed."""
    numbers = [column.attnum for column in found.base.columns if column.name in dropped]
    users = [row["what"] for row in host.rows(USERS, ["oid", "int2[]"], [found.base.oid, numbers])]
    for oid in (found.view.oid, found.base.oid):
        readers = host.rows(READERS, ["oid", "text[]", "oid"], [oid, dropped, found.view.oid])
        users += [row["what"] for row in readers]
    if users:
        raise PartsUsed(
            f"other objects use columns of {found.view.sql} that hold parts of the old values: {commas(dropped)}",
            detail="\n".join(f"- {what}" for what in dict.fromkeys(users)),
            hint=HINT,
        )


def drop(host: Host, found: Place, dropped: list[str]) -> None:
    """Drops them from a table whose adoption has ended in this transaction. Raises PartsUsed, and StillUsed."""
    check(host, found, dropped)
    exchange.begin(host, catalog.key_of(host, found.base.oid))
    host.run(statement(found, dropped))
    for row in host.rows(EXCHANGED, ["oid"], [found.base.oid]):
        settle.settle(host, row)
