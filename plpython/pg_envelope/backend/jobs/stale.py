"""Which rows have an envelope that is not under the newest key."""

from __future__ import annotations

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.generate import Layout

HEADERS = """
SELECT f.field_uuid, substr(c.seal, 17) AS header FROM envelope_private.field f
JOIN envelope_private.capability c USING (field_uuid) WHERE f.key_uuid = $1"""
ERASED = """
SELECT encode(substr(int8send(fk.key_id), 5), 'hex') AS key_id
FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
WHERE fk.field_uuid = $1 AND 'destroyed' IN (fk.state, d.state)"""


def stale(host: Host, layout: Layout, key: Row) -> str:
    """True for a row of `t` with an envelope that is not under the newest key, as the catalog is now."""
    if key["scope"] != "table":
        # Each tenant or subject has a newest key of its own; one that is destroyed or suspended cannot be left.
        return " OR ".join(f"envelope.is_stale(t.{ident(name)})" for name in layout.protected)
    headers = {row["field_uuid"]: row["header"].hex() for row in host.rows(HEADERS, ["uuid"], [key["key_uuid"]])}
    return " OR ".join(
        _under_an_old_key(host, f"t.{ident(name)}", protected.field_uuid, headers[protected.field_uuid])
        for name, protected in layout.protected.items()
    )


def _under_an_old_key(host: Host, value: str, field_uuid: str, newest: str) -> str:
    """What was erased stays as it is: nobody can read it, to write it anew."""
    erased = host.rows(ERASED, ["uuid"], [field_uuid])
    alive = "".join(f" AND substr({value}, 3, 4) <> '\\x{row['key_id']}'" for row in erased)
    return f"substr({value}, 1, 6) <> '\\x{newest}'{alive}"
