"""Measures reads of an audited column beside those of a protected column without a level, of one table."""

from __future__ import annotations

from bench.figures import Measure, of_cpu
from bench.reads import Reads
from bench.settings import Settings
from stack.stack import Stack

MADE = """
CREATE TABLE audited (id int PRIMARY KEY, ours text, audited text);
INSERT INTO audited SELECT i, 'person.' || i || '@mail.example', 'person.' || i || '@mail.example'
    FROM generate_series(1, {}) i;
CALL envelope.protect('audited', '{{"ours": {{}}, "audited": {{"audit": "statement"}}}}');
"""


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Measures a scan, and a client's statement that reads one value by its key: by the clock, and by the processor
    time of its backend.
    """
    reads = Reads("audited", settings)
    with stack.connect() as connection:
        connection.execute(MADE.format(settings.rows))
        peers = {column: (connection, column) for column in ("ours", "audited")}
        return [
            reads.measured("audited_scan", "scan of an audited column", "µs/row", reads.scan, peers),
            reads.measured("audited_point", "audited point read", "µs", reads.clock, peers),
            reads.measured("audited_cpu", "audited point read, server's CPU", "µs", reads.cpu, peers, of_cpu),
        ]
