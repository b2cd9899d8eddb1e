"""Fixtures for all tests: one stack (PostgreSQL, OpenBao, broker) per worker, made when first asked for."""

from __future__ import annotations

import os
import platform
import signal

import pytest
from hypothesis import HealthCheck, settings

from stack.postgres import pg_config
from tests.fix_stack import alice, bob, db, filled, make_db, owner, stack, templates

__all__ = ["alice", "bob", "db", "filled", "make_db", "owner", "stack", "templates"]

# A slow machine is no fault, so examples have no deadline. CI must answer alike for alike commits; on a developer's
# machine each run tries other values.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("tests"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "tests")

# A shell starts background jobs with SIGINT ignored, and so would be every process that a test starts to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    server = str(pg_config("--version"))
    terminalreporter.write_line(f"These tests ran on {server}, with Python {platform.python_version()}.")
