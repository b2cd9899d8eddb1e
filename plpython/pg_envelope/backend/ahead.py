"""Read-ahead: keys of tenants and subjects that a statement will probably ask for next."""

from __future__ import annotations

from time import monotonic

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import server
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_envelope.backend.session_keys import SessionKeys

# The most keys that one request to the KMS unwraps, including the key that was asked for.
MOST = 199
# A request for one key costs the KMS as much as some 90 more keys in a request. For each request that is spared, this
# many keys may be read ahead in vain.
WORTH = 32
# The most key ids that may lie between two keys of one reader, for each key that is read ahead.
GAP = 8
KEY_IDS = 2**32
STREAMS = 100
# A session that makes keys reads so many spares ahead at first, and twice as many each time. It begins anew when it has
# made no key for so long.
FIRST_SPARES = 4
IDLE_SECONDS = 60.0
# The spares are read, too: a session that inserts new subjects will take them soon, in this order. Each id is looked up
# by itself, because rows that are not committed yet do not count in statistics: a join would read all rows.
NEXT = """
SELECT n.* FROM unnest($2::bigint[]) AS wanted (key_id), LATERAL (
    SELECT fk.key_id, fk.salt, d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint
    FROM (SELECT * FROM envelope_private.field_key f WHERE f.key_id = wanted.key_id LIMIT 1) fk,
        LATERAL (SELECT * FROM envelope_private.dek k WHERE k.dek_id = fk.dek_id LIMIT 1) d
    WHERE fk.field_uuid IS NULL AND d.key_uuid = $1 AND d.store = 'catalog'
        AND d.state NOT IN ('suspended', 'destroyed') AND fk.state <> 'destroyed' AND d.version > 0
    UNION ALL (
    SELECT s.key_id, s.salt, s.dek_id, s.kek, 'catalog', s.wrapped, s.fingerprint
    FROM envelope_private.spare_dek s
    WHERE s.key_uuid = $1 AND s.kek = $4 AND s.key_id = wanted.key_id LIMIT 1)) n
LIMIT $3"""


class Stream:
    """Remembers what the readers of one column asked for in one statement, and how many keys were read ahead."""

    def __init__(self, statement: int, first_uses: int) -> None:
        self.statement = statement
        self.last = 0
        self.misses = 0
        self._ahead = 0
        self._first_uses = first_uses

    def size(self, first_uses: int) -> int:
        """Returns how many keys to read ahead: as many as earlier keys have paid for.

        Each key that was there when it was asked for has spared a request. A statement of one key reads none ahead.
        """
        spared = max(0, first_uses - self._first_uses)
        return max(0, min(MOST, WORTH * (self.misses - 1 + spared) - self._ahead))

    def read(self, count: int) -> None:
        self._ahead += count


class Ahead:
    """Decides which keys to read ahead: those beside the key that was asked for, in the direction of the reader.

    A statement that reads tenants or subjects in their order needs these keys next. For any other order they are as
    good as others, and the session soon holds all keys of a table with a few thousand subjects.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._streams: dict[bytes, Stream] = {}
        self._made = 0
        # By capability: how many spares were read ahead, and until when there will be twice as many next time.
        self._spares: dict[bytes, tuple[int, float]] = {}

    def made(self, key_id: int) -> None:
        """Notes that this session took a spare. For its next new subjects it will take the spares that follow."""
        self._made = key_id

    def after(self, slot: bytes, capability: bytes, row: Row, keys: SessionKeys) -> list[Row]:
        """Returns rows of the key catalog to read ahead, for the field of `row`, whose key was just asked for."""
        if row["scope_key"] is None:
            return []
        stream = self._stream(capability, keys)
        key_id, step = row["key_id"], -1 if row["key_id"] < stream.last else 1
        stream.last = key_id
        stream.misses += 1
        size = self._more_spares(capability) if key_id == self._made else stream.size(keys.first_uses(capability))
        wanted = _not_here(slot[:-4], key_id, step * GAP * size, keys)
        if not wanted:
            return []
        values = [row["scope_key"], wanted, size, row["kek"]]
        found = self._host.rows(NEXT, ["uuid", "int8[]", "int4", "text"], values)
        stream.read(len(found))
        same = {name: row[name] for name in ("field_uuid", "label", "database_uuid", "audit")}
        return [{**other, **same} for other in found]

    def _more_spares(self, capability: bytes) -> int:
        """Across statements: each INSERT of a new subject may be one."""
        if len(self._spares) >= STREAMS:
            self._spares.clear()
        size, until = self._spares.get(capability, (0, 0.0))
        size = min(MOST, 2 * size) if monotonic() < until else FIRST_SPARES
        self._spares[capability] = size, monotonic() + IDLE_SECONDS
        return size

    def _stream(self, capability: bytes, keys: SessionKeys) -> Stream:
        statement = server().GetCurrentStatementStartTimestamp()
        stream = self._streams.get(capability)
        if stream is None or stream.statement != statement:
            if len(self._streams) >= STREAMS:
                self._streams.clear()
            stream = self._streams[capability] = Stream(statement, keys.first_uses(capability))
        return stream


def _not_here(beginning: bytes, key_id: int, span: int, keys: SessionKeys) -> list[int]:
    """Returns key ids up to `span` away whose keys the session lacks, the nearest first. Their slots begin alike."""
    end = min(max(0, key_id + span), KEY_IDS)
    beside = range(key_id + 1, end) if span > 0 else range(key_id - 1, end, -1)
    return [other for other in beside if not keys.holds(beginning + other.to_bytes(4, "big"))]
