"""Measures UPDATE and DELETE by key, and the first row of a new subject: the processor time of one statement, rolled
back.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg

from bench.figures import Measure, of_cpu
from bench.peers import OURS, PLAIN
from bench.points import FEW_TRANSACTIONS, nanoseconds
from bench.settings import Settings
from stack.stack import Stack

STATEMENTS = (
    ("update_open", "UPDATE of an open column", "UPDATE {} SET city = 'Lima' WHERE id = %s"),
    ("update_1", "UPDATE of one protected column", "UPDATE {} SET email = 'ada@mail.example' WHERE id = %s"),
    (
        "update_3",
        "UPDATE of three protected columns",
        "UPDATE {} SET name = 'Ada', email = 'ada@mail.example', phone = '+47 1' WHERE id = %s",
    ),
    ("delete", "DELETE by key", "DELETE FROM {} WHERE id = %s"),
)
SUBJECTS = """
CREATE TABLE subject_plain (id bigint PRIMARY KEY, person bigint NOT NULL, note text);
CREATE TABLE subject_ours (LIKE subject_plain INCLUDING ALL);
CALL envelope.protect('subject_ours', '["note"]', scope => 'subject', scope_column => 'person');
"""
NEW_SUBJECT = "INSERT INTO subject_{0} SELECT n, n, 'note' FROM (SELECT %s::bigint) s (n)"
# So many statements run first, because PostgreSQL makes five plans before it keeps one.
WARMING = 6
MOST_STATEMENTS = 500


def measure(stack: Stack, settings: Settings) -> list[Measure]:
    with stack.connect() as plain, stack.connect() as ours:
        plain.execute(SUBJECTS)
        calls = [
            *((name, title, text.format(PLAIN.name), text.format(OURS.name)) for name, title, text in STATEMENTS),
            ("new_subject", "INSERT of a new subject", NEW_SUBJECT.format("plain"), NEW_SUBJECT.format("ours")),
        ]
        return [
            _measured(name, title, {"plain": (plain, left), "ours": (ours, right)}, settings)
            for name, title, left, right in calls
        ]


def _measured(
    name: str, title: str, calls: dict[str, tuple[psycopg.Connection[Any], str]], settings: Settings
) -> Measure:
    count = min(settings.rows - WARMING, MOST_STATEMENTS if settings.point_seconds else FEW_TRANSACTIONS)
    takes = {peer: partial(_take, connection, text, count) for peer, (connection, text) in calls.items()}
    for take in takes.values():
        take()
    return Measure(name, f"{title}, CPU", "µs", of_cpu(takes, settings.rounds))


def _take(connection: psycopg.Connection[Any], statement: str, count: int) -> float:
    """Returns µs a statement, each on another row."""
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        for number in range(1, WARMING + 1):
            cursor.execute(statement, [number], prepare=True)
        before = nanoseconds(connection.info.backend_pid)
        for number in range(WARMING + 1, WARMING + 1 + count):
            cursor.execute(statement, [number], prepare=True)
        return (nanoseconds(connection.info.backend_pid) - before) / count / 1e3
