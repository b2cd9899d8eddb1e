"""Compares the sequences of the key catalog with its tables, and brings them forward where they are behind."""

from __future__ import annotations

from pg_envelope.backend.budget import MEND, SOFT_LIMIT
from pg_envelope.backend.host import Host

BEHIND = """
SELECT string_agg(s.name, ', ' ORDER BY s.name) AS found, count(*) AS count FROM (
    SELECT 'dek_id_seq' AS name, max(d.dek_id) AS highest FROM envelope_private.dek d
    UNION ALL SELECT 'key_id_seq', max(f.key_id) FROM envelope_private.field_key f) s
WHERE s.highest > coalesce(pg_sequence_last_value(('envelope_private.' || s.name)::regclass), 0)"""
# These functions bring the sequences forward themselves.
DRAW = "SELECT envelope_private.next_dek_id(), envelope_private.next_key_id()"
# A counter that never counted may belong to a key which sealed much elsewhere.
LOST = """
SELECT DISTINCT counted FROM envelope_private.budget
WHERE lost OR pg_sequence_last_value(envelope_private.counter_name(counted)::regclass) IS NULL"""


def mend(host: Host) -> int:
    """Brings the sequences and counters forward that are behind. Returns how many these were."""
    behind = host.row(BEHIND)
    count = int(behind["count"]) if behind else 0
    if count:
        host.rows(DRAW)
    lost = host.rows(LOST)
    for row in lost:
        host.rows(MEND, ["uuid", "int8"], [row["counted"], SOFT_LIMIT])
    return count + len(lost)
