"""Measures reads of a masked column, by a role that sees values and by one that sees masks, beside a column without
rules in the same table.
"""

from __future__ import annotations

from bench.figures import Measure, of_cpu
from bench.reads import Reads
from bench.settings import Settings
from stack.stack import Stack

CLEAR, MASKED = "masked_clear", "masked_reader"
MADE = """
CREATE ROLE {clear}; CREATE ROLE {masked};
CREATE TABLE masks (id int PRIMARY KEY, ours text, masked text);
INSERT INTO masks SELECT i, 'person.' || i || '@mail.example', 'person.' || i || '@mail.example'
    FROM generate_series(1, {rows}) i;
CALL envelope.protect('masks', '["ours", "masked"]');
GRANT SELECT ON masks TO {clear}, {masked};
SELECT envelope.mask('masks', 'masked', 'public', 'email'), envelope.mask('masks', 'masked', '{clear}', 'clear');
"""


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """Measures a scan by the clock, and a point read by the processor time of its backend."""
    reads = Reads("masks", settings)
    with stack.connect() as clear, stack.connect() as masked:
        clear.execute(MADE.format(clear=CLEAR, masked=MASKED, rows=settings.rows))
        clear.execute(f"SET ROLE {CLEAR}")
        masked.execute(f"SET ROLE {MASKED}")
        peers = {"ours": (clear, "ours"), "clear": (clear, "masked"), "masked": (masked, "masked")}
        return [
            reads.measured("masked_scan", "scan of a masked column", "µs/row", reads.scan, peers),
            reads.measured("masked_cpu", "masked point read, server's CPU", "µs", reads.cpu, peers, of_cpu),
        ]
