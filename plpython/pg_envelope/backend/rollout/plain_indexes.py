"""Makes the indexes of values again before unprotect(online) ends, so that its last transaction need not.

They are of the columns in the clear, and have temporary names. The indexes of tokens stay in force until the end.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host, Undone
from pg_envelope.backend.search import carried, place, protecting, stand_ins
from pg_envelope.backend.search.carried import Dropped, Index
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.search.token_indexes import temporary_name
from pg_envelope.backend.sqltext import derived_name, ident, qualified
from pg_envelope.backend.tables import lent, locks
from pg_envelope.backend.tables.owner import AsOwner

SCRATCH = "_pg_envelope_scratch"
DEFINITION = """
SELECT substr(d.text, position(d.place IN d.text) + length(d.place)) AS definition FROM (
    SELECT pg_get_indexdef(i.indexrelid) AS text, format(' ON %s ', i.indrelid::regclass) AS place
    FROM pg_catalog.pg_index i WHERE i.indrelid = to_regclass($1)) d"""
# Classes of errors that are no fault of a definition: the session ends, the server lacks something, it is locked.
NOT_OF_IT = ("53", "55", "57", "58")


def make(host: Host, oid: int) -> None:
    """Writes wait meanwhile, as for CREATE INDEX. Commits. Raises Duplicate, Locked."""
    found = place.find(host, oid)
    for one in stand_ins.lacking(host, found.layout, found.base.oid):
        with protecting.usable(host, found.base, lent.LONG):
            locks.lock(host, found.base.sql, mode="SHARE")
            _make(host, found, one)
        host.commit()


def _make(host: Host, found: Place, one: Index | Dropped) -> None:
    owner = AsOwner(host, found.base.owner_oid)
    if isinstance(one, Index):
        plain = one.renamed({name: plain for plain, name in found.layout.sources.items()}, str)
        carried.create(owner, carried.renamed(plain, temporary_name(one.name)), found.base.sql)
    else:
        _try(host, owner, found, one)


def _try(host: Host, owner: AsOwner, found: Place, one: Dropped) -> None:
    """Makes what was dropped on demand. What does not fit any more is told of at the end."""
    try:
        with host.subtransaction():
            unique = "UNIQUE " if one.is_unique else ""
            name = ident(temporary_name(one.name))
            owner.run(f"CREATE {unique}INDEX {name} ON {found.base.sql} {_rewritten(host, owner, found, one)}")
    except Exception as error:
        if str(getattr(error, "sqlstate", "57")).startswith(NOT_OF_IT):
            raise


def _rewritten(host: Host, owner: AsOwner, found: Place, one: Dropped) -> str:
    """Returns a definition for the columns in the clear, as PostgreSQL writes it, through an empty table."""
    written: list[str] = []
    scratch = qualified(found.layout.schema, derived_name(found.base.name, SCRATCH))
    try:
        with host.subtransaction():
            host.run(f"CREATE TABLE {scratch} (LIKE {found.view.sql})")
            host.run(f"ALTER TABLE {scratch} OWNER TO {ident(found.base.owner)}")
            owner.run(one.restore(scratch))
            for plain, name in found.layout.sources.items():
                host.run(f"ALTER TABLE {scratch} RENAME COLUMN {ident(name)} TO {ident(plain)}")
            row = host.row(DEFINITION, ["text"], [scratch])
            written += [row["definition"]] if row else []
            raise Undone
    except Undone:
        return written[0]
