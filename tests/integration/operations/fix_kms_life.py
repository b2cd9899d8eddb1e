"""A stack whose servers a test may stop, break and configure: all is as before when the test is over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from stack.processes import private_file
from stack.stack import Stack
from tests.fix_stack import Database

POLICY = "sys/policies/acl/pg-envelope-broker"
QUICK = {
    "broker": {"probe_seconds": 0.2},
    "cache": {"ttl_seconds": 0.2, "grace_seconds": 0.5, "session_ttl_seconds": 0.2},
}
READ = "SELECT email FROM person WHERE id = 1"


def failure(connection: psycopg.Connection[Any], statement: str) -> tuple[str | None, str, str]:
    """SQLSTATE, message and HINT of a statement that must fail."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    report = caught.value.diag
    return report.sqlstate, report.message_primary or "", report.message_hint or ""


def refusal(connection: psycopg.Connection[Any], statement: str = READ) -> str:
    """pg_envelope's own error of the broker or the KMS, the only one that a statement may end with; "" if it works."""
    try:
        connection.execute(statement)
    except psycopg.errors.SystemError as error:
        return error.diag.message_primary or ""
    return ""


def answers(connection: psycopg.Connection[Any], statement: str = READ) -> bool:
    """Whether a statement works by now."""
    return not refusal(connection, statement)


def well(stack: Stack) -> bool:
    """Whether the broker finds every KEK fit, by its page for load balancers."""
    try:
        return all(line.endswith(" ok") for line in stack.broker.page("healthz").splitlines())
    except OSError:
        return False


@pytest.fixture
def breakable(stack: Stack) -> Iterator[Stack]:
    """The stack; its broker and OpenBao are running, unsealed and configured as before afterwards.

    A broker that nothing happened to goes on: its start costs more than most tests.
    """
    config, policy = stack.broker.config_file.read_text(), stack.openbao.request("GET", POLICY)["data"]["policy"]
    servers = stack.broker.pid, stack.openbao.pid
    yield stack
    if not stack.openbao.running:
        stack.openbao.start()
    elif stack.openbao.sealed:
        stack.openbao.unseal()
    stack.openbao.request("PUT", POLICY, {"policy": policy})
    untouched = stack.broker.config_file.read_text() == config and servers == (stack.broker.pid, stack.openbao.pid)
    if not (untouched and well(stack)):
        stack.broker.stop()
        private_file(stack.broker.config_file, config, stack.broker.account)
        stack.broker.start()


@pytest.fixture
def quick(breakable: Stack) -> Stack:
    """The breakable stack with short times to live and a short grace."""
    breakable.broker.configure(QUICK)
    breakable.broker.restart()
    return breakable


@pytest.fixture
def patient(quick: Stack) -> Stack:
    """The quick stack with a grace that no test sees the end of."""
    quick.broker.configure({"cache": {"grace_seconds": 3600.0}})
    quick.broker.restart()
    return quick


@pytest.fixture
def people(db: Database) -> Database:
    """A database with one protected table of two rows."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c'), (2, 'd@e.f')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    return db
