"""Tables in subject scope: what a new session takes to read a value of each of many subjects, in any order."""

from __future__ import annotations

import re
from functools import partial

from bench.figures import Measure, Samples, interleaved, seconds
from bench.settings import Settings
from stack.stack import Stack

MADE = """
CREATE TABLE cold_plain (id int PRIMARY KEY, person int NOT NULL, note text);
CREATE TABLE cold_ours (LIKE cold_plain INCLUDING ALL);
CALL envelope.protect('cold_ours', '["note"]', scope => 'subject', scope_column => 'person');
"""
FILL = "INSERT INTO cold_{} SELECT i, i, 'note' FROM generate_series(1, {}) i"
MOST_SUBJECTS = 1000
# An order that says nothing of the order in which keys were made.
READ = "SELECT count(note) FROM (SELECT note FROM cold_{} ORDER BY md5(id::text)) n"
ASKED = re.compile(r'^pg_envelope_requests_total\{[^}]*op="derive"[^}]*\} (\d+)', re.MULTILINE)


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    """The time of the statement, and how often it asks the broker."""
    subjects = min(settings.rows, MOST_SUBJECTS)
    with stack.connect() as connection:
        connection.execute(MADE)
        for peer in ("plain", "ours"):
            connection.execute(FILL.format(peer, subjects))
    before = _asked(stack)
    samples = interleaved({peer: partial(_take, stack, peer) for peer in ("plain", "ours")}, settings.rounds)
    requests = Samples([(_asked(stack) - before) / settings.rounds])
    title = f"read of {subjects:,} subjects in any order, new session"
    return [
        Measure("subjects", title, "ms", samples),
        Measure("subjects_asked", "the same, requests to the broker", "", {"ours": requests}),
    ]


def _take(stack: Stack, peer: str) -> float:
    with stack.connect() as connection:
        return seconds(lambda: connection.execute(READ.format(peer))) * 1e3


def _asked(stack: Stack) -> int:
    return sum(map(int, ASKED.findall(stack.broker.page("metrics"))))
