"""Read-ahead: keys of tenants and subjects that a statement will probably ask for next."""

from __future__ import annotations

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import server

# The most keys that one request to the KMS unwraps, including the key that was asked for.
MOST = 199
# The most key ids that may lie between two keys of one reader, for each key that is read ahead.
GAP = 8
STREAMS = 100
# The spares are read, too: a session that inserts new subjects will take them soon, in this order.
NEXT = """
SELECT fk.key_id, fk.salt, d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint
FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id)
WHERE fk.key_id > $2 AND fk.key_id <= $2 + $4 AND fk.field_uuid IS NULL AND d.key_uuid = $1 AND d.store = 'catalog'
    AND d.state NOT IN ('suspended', 'destroyed') AND fk.state <> 'destroyed'
UNION ALL
SELECT s.key_id, s.salt, s.dek_id, s.kek, 'catalog', s.wrapped, s.fingerprint
FROM envelope_private.spare_dek s WHERE s.key_uuid = $1 AND s.key_id > $2 AND s.key_id <= $2 + $4
ORDER BY key_id LIMIT $3"""


class Stream:
    """Remembers, for the reader of one column in one statement, the last key id and how many keys were read ahead."""

    def __init__(self, statement: int, reached: int) -> None:
        self.statement = statement
        self.reached = reached
        self.size = 0


class Ahead:
    """Decides how many keys to read ahead.

    The number doubles at each miss that goes on where the last read ended. It halves at each miss elsewhere.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._streams: dict[bytes, Stream] = {}

    def after(self, capability: bytes, row: Row) -> list[Row]:
        """Returns the key catalog's rows that follow `row`, for the same field. The key of `row` was just asked for."""
        if row["scope_key"] is None:
            return []
        stream = self._stream(capability, row["key_id"])
        stream.reached = row["key_id"]
        if not stream.size:
            return []
        values = [row["scope_key"], row["key_id"], stream.size, GAP * stream.size]
        found = self._host.rows(NEXT, ["uuid", "bigint", "int4", "bigint"], values)
        if found:
            stream.reached = found[-1]["key_id"]
        same = {name: row[name] for name in ("field_uuid", "label", "database_uuid")}
        return [{**other, **same} for other in found]

    def _stream(self, capability: bytes, key_id: int) -> Stream:
        statement = server().GetCurrentStatementStartTimestamp()
        stream = self._streams.get(capability)
        if stream is None or stream.statement != statement:
            if len(self._streams) >= STREAMS:
                self._streams.clear()
            stream = self._streams[capability] = Stream(statement, key_id)
        elif 0 < key_id - stream.reached <= GAP * max(1, stream.size):
            stream.size = min(MOST, max(1, 2 * stream.size))
        else:
            stream.size //= 2
        return stream
