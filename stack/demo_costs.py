"""Prints the demo's last table: what protection costs here and now, beside a plain twin of the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable

from stack.demo_show import Connection, Show, run

TWIN = """
CREATE TABLE customer_plain (LIKE customer INCLUDING DEFAULTS);
ALTER TABLE customer_plain ADD PRIMARY KEY (id);
INSERT INTO customer_plain SELECT * FROM customer;
GRANT ALL ON customer_plain TO app;
ANALYZE customer_plain, customer_encrypted"""
SCAN_ONE = "SELECT count(length(email)) FROM {table}"
SCAN_THREE = "SELECT count(length(email)), count(length(name)), count(length(phone)) FROM {table}"
POINT = "SELECT name, email FROM {table} WHERE id = %s"
INSERT = "INSERT INTO {table} (id, name, email) SELECT g, 'Name ' || g, g || '@x.y' FROM generate_series({rows}) g"
ROUNDS = 3


def show(show: Show, admin: Connection, app: Connection) -> None:
    """Medians of three interleaved rounds; the bench measures more carefully."""
    show.heading("9. What it costs")
    run(admin, TWIN)
    rows = [
        _compared("scan, one protected column", lambda table, _: run(app, SCAN_ONE.format(table=table))),
        _compared("scan, three protected columns", lambda table, _: run(app, SCAN_THREE.format(table=table))),
        _compared("1,000 point reads by primary key", lambda table, _: _points(app, table)),
        _compared("INSERT of 5,000 rows", lambda table, turn: _insert(app, table, turn)),
    ]
    show.table(["", "plain ms", "protected ms", "ratio"], rows)
    show.say("Ratios over the plain table on this machine; `make bench` adds pgcrypto, and more rounds.")


def _compared(what: str, work: Callable[[str, int], object]) -> list[str]:
    times: dict[str, list[float]] = {"customer_plain": [], "customer": []}
    for turn in range(ROUNDS):
        for table, measured in times.items():
            began = time.perf_counter()
            work(table, turn)
            measured.append((time.perf_counter() - began) * 1000)
    plain, protected = (sorted(measured)[ROUNDS // 2] for measured in times.values())
    return [what, f"{plain:.1f}", f"{protected:.1f}", f"{protected / plain:.1f} x"]


def _points(app: Connection, table: str) -> None:
    statement = POINT.format(table=table)
    for number in range(1, 1001):
        app.execute(statement.encode(), (number,), prepare=True)


def _insert(app: Connection, table: str, turn: int) -> None:
    first = 1_000_000 + turn * 5000
    run(app, INSERT.format(table=table, rows=f"{first}, {first + 4999}"))
