"""The machine's clock steps, forwards and back: nothing ends early, nothing lives longer, nothing is lost."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack

from .conftest import SERVER
from .victims import WAIT
from .world import World

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
# The certificates of the stack are good for 30 days from today.
STEPS = (20, 1)
QUICK = {"ttl_seconds": 0.5, "session_ttl_seconds": 0.5, "grace_seconds": 8.0}
PACKAGE = Path(__file__).parents[2] / "plpython/pg_envelope"
WALL_CLOCKS = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime"}
# What may read the wall clock, and why a step does no harm there.
JUDGED = {
    "broker/watch/audit.py": "the time of a line; their order is the file's",
    "broker/ledger/rings.py": "the time in a checkpoint; when one is due is told by another clock",
    "broker/ledger/recorder.py": "the start, in a metric that an alert compares with its own clock",
    "broker/watch/metrics.py": "the age of a key, which the catalog's own clock made",
    "broker/door/door.py": "until a client's certificate expires; TLS looks at that clock, too",
    "backend/kek_age.py": "the age of a KEK, which its KMS made; a person compares it with two years",
    "backend/read_facts.py": "the time of an event; its number in the ring is its order",
    "foreign/writers.py": "the time in a Fernet token; it is for its reader",
    "broker/keys/epoch.py": "the first value of a new counter; it only has to differ from what backends hold",
}


def wall_clocks(file: Path) -> set[str]:
    """Calls of time.time(), datetime.now() and the like; clock.now() is the broker's own, which does not step."""
    found = {ast.unparse(node) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    return found & {f"{module}.{name}" for module in ("time", "datetime", "date") for name in WALL_CLOCKS}


def test_only_these_modules_read_the_wall_clock() -> None:
    found = {str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if wall_clocks(file)}
    assert found == set(JUDGED)


class Clock:
    """The wall clock of server and broker; OpenBao's stays where it is, as another machine's would."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, days: int) -> None:
        """At once, for whoever looks: never an empty file in between."""
        new = self._file.with_suffix(".new")
        new.write_text(f"+{days}d\n")
        new.chmod(0o644)
        new.replace(self._file)


@pytest.fixture
def stepping(tmp_path: Path) -> Iterator[tuple[Stack, Clock]]:
    """A stack whose clock a test can set."""
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern[1:])]
    if not found:
        pytest.skip("libfaketime is not installed")
    made = Stack(tmp_path / "stack", postgres_settings=SERVER, broker_settings={"cache": QUICK})
    clock, command = Clock(found[0], made.home / "clock"), made.broker.command()
    variables = [f"{name}={value}" for name, value in clock.environment.items()]
    made.cluster.environment.update(clock.environment)
    made.broker.command = lambda: ["/usr/bin/env", *variables, *command]  # type: ignore[method-assign]
    try:
        made.up()
        yield made, clock
    finally:
        made.down()


def reads(world: World) -> bool:
    try:
        world.sql("SELECT email FROM person WHERE id = 1")
    except psycopg.errors.SystemError:
        return False
    return True


def days_ahead(world: World) -> int:
    """By how many days the server's clock differs from ours."""
    ahead = "SELECT round((extract(epoch FROM clock_timestamp()) - %s) / 86400)"
    return int(world.one(ahead, time.time()))


def test_a_step_neither_ends_a_grace_nor_makes_it_longer(stepping: tuple[Stack, Clock]) -> None:
    stack, clock = stepping
    world = World(stack, "proof_grace")
    world.make(protected=True)
    stack.openbao.seal()
    for days in STEPS:
        clock.set(days)
        assert days_ahead(world) == days
        assert reads(world), "within the grace"
    wait_until(lambda: not reads(world), WAIT, "the end of the grace, whatever the clock says")
    stack.openbao.unseal()
    wait_until(lambda: reads(world), WAIT, "recovery")
    world.check()
    world.disconnect()
