"""A large table is protected and unprotected while pgbench reads and writes: nobody is refused, and no row is lost.

`make proof` takes 1,000,000 rows, and `make test` fewer. PROOF_ROWS= chooses.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.postgres import pg_config
from stack.stack import Stack
from tests.fix_stack import Database

MANY, FEW = 1_000_000, 3000
CLIENTS = 3
NAME = "proof_online"
MADE = """
CREATE TABLE account (id int PRIMARY KEY, email text NOT NULL, note text, balance int NOT NULL DEFAULT 0);
INSERT INTO account (id, email, note)
    SELECT i, 'person.' || i || '@mail.example', CASE WHEN i % 3 > 0 THEN 'note ' || i END
    FROM generate_series(1, {}) i;
CREATE TABLE history (id int, delta int);
CREATE ROLE teller LOGIN;
GRANT SELECT, UPDATE ON account TO teller;
GRANT INSERT ON history TO teller;
ALTER ROLE teller SET log_lock_waits = on;
ALTER ROLE teller SET deadlock_timeout = '10ms'"""
WAITED = re.compile(r"teller@\S+ LOG:  process \d+ acquired \w+ on .* after ([\d.]+) ms")
# Each client has rows of its own: two sessions that meet at one row are another test's. What they write of a protected
# column can be told from the row.
SCRIPT = r"""
\set id random(0, :rows / 3 - 1) * 3 + 1 + :client_id
\set delta random(-100, 100)
BEGIN;
SELECT email, note FROM account WHERE id = :id;
UPDATE account SET balance = balance + :delta, email = 'moved.' || :id || '@mail.example' WHERE id = :id;
INSERT INTO history VALUES (:id, :delta);
END;
"""
WRONG = """
SELECT count(*) FROM account a LEFT JOIN (SELECT DISTINCT id FROM history) h USING (id)
WHERE a.note IS DISTINCT FROM CASE WHEN id % 3 > 0 THEN 'note ' || id END
    OR a.email <> CASE WHEN h.id IS NULL THEN 'person.' ELSE 'moved.' END || id || '@mail.example'"""
SUMS = "SELECT (SELECT sum(balance) FROM account), (SELECT sum(delta) FROM history)"
PROTECT = "CALL envelope.protect('account', '[\"email\", \"note\"]', online => true{})"
UNPROTECT = "CALL envelope.unprotect('account', online => true)"
STEPS = {
    "protect": PROTECT.format(""),
    "protected": "SELECT pg_sleep(3)",
    "unprotect": UNPROTECT,
    "protect, with pauses": PROTECT.format(", batch_size => 100, pause_ms => 30"),
    "unprotect again": UNPROTECT,
}


@pytest.fixture(scope="module")
def rows(points: int | None) -> int:
    return int(os.environ.get("PROOF_ROWS") or (MANY if points else FEW))


@pytest.fixture
def accounts(durable: Stack, rows: int) -> Iterator[Database]:
    with durable.connect("postgres") as admin:
        admin.execute(f"CREATE DATABASE {NAME}")
    with Database(durable, NAME) as db:
        db.sql("CREATE EXTENSION pg_envelope CASCADE")
        db.sql(MADE.format(rows))
        db.sql("VACUUM ANALYZE account")
        yield db
    with durable.connect("postgres") as admin:
        admin.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
        admin.execute("DROP ROLE teller")


@dataclass
class Load:
    """What pgbench tells of its transactions, and how long statements waited for locks, as the server's log tells.

    The first transaction of a session takes longer than others: it starts Python.
    """

    out: str
    seconds: float
    milliseconds: list[float]
    waits: list[float]

    @property
    def rate(self) -> float:
        return len(self.milliseconds) / self.seconds

    @property
    def longest(self) -> float:
        return max(self.milliseconds)

    @property
    def held_up(self) -> float:
        return max(self.waits, default=0.0)


@contextmanager
def load(db: Database, rows: int, place: Path) -> Iterator[list[Load]]:
    """pgbench for as long as the block lasts. The list has its one Load afterwards."""
    (place / "script.sql").write_text(SCRIPT)
    command = [
        *(f"{pg_config('--bindir')}/pgbench", "--no-vacuum", "--file=script.sql", f"--define=rows={rows}"),
        *(f"--client={CLIENTS}", "--jobs=1", "--protocol=prepared", "--time=36000", "--log", "--progress=1"),
        *("--username=teller", f"--host={db.admin.info.host}", f"--port={db.admin.info.port}", db.name),
    ]
    for old in place.glob("pgbench_log.*"):
        old.unlink()
    log = db.stack.cluster.log
    began, found, before = time.monotonic(), list[Load](), log.stat().st_size
    bench = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield found
    finally:
        seconds = time.monotonic() - began
        died = bench.poll()
        bench.terminate()
        out = bench.communicate()[0]
    assert died is None, out
    lines = [line.split() for log in place.glob("pgbench_log.*") for line in log.read_text().splitlines()]
    # pgbench is ended while it writes a line.
    times = [line[2] for line in lines if len(line) >= 6]
    assert "failed" not in times, out
    waits = [float(one) for one in WAITED.findall(log.read_bytes()[before:].decode(errors="replace"))]
    found.append(Load(out, seconds, [float(one) / 1000 for one in times], waits))


def step(db: Database, call: str, rows: int, place: Path) -> Load:
    with load(db, rows, place) as found:
        time.sleep(1)
        db.sql(call)
        time.sleep(1)
    (one,) = found
    assert not re.search("error|aborted|ERROR|FATAL", one.out), one.out
    assert db.one(WRONG) == 0
    balance, history = db.sql(SUMS)[0]
    assert balance == history
    return one


def test_nobody_is_refused_and_every_row_is_right(accounts: Database, rows: int, tmp_path: Path) -> None:
    with load(accounts, rows, tmp_path) as found:
        time.sleep(3)
    loads = {"plain table": found[0]}
    for name, call in STEPS.items():
        loads[name] = step(accounts, call, rows, tmp_path)
    print(f"\n{rows:,} rows, {CLIENTS} clients of pgbench")
    for name, one in loads.items():
        part = one.rate / loads["plain table"].rate
        print(
            f"  {name:20} {one.rate:6.0f} transactions a second ({part:.2f} of the plain table's),"
            f" longest {one.longest:4.0f} ms, held up by a lock {one.held_up:4.0f} ms, {one.seconds:4.0f} s"
        )
    assert all(one.milliseconds for one in loads.values())
    assert accounts.one("SELECT relkind = 'r' FROM pg_class WHERE oid = 'account'::regclass")
    assert accounts.one("SELECT count(*) FROM account") == rows
