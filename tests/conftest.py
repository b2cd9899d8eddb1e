"""Fixtures for all tests: one stack (PostgreSQL, OpenBao, broker) per worker, made when first asked for."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.fix_stack import alice, bob, db, make_db, owner, stack

__all__ = ["alice", "bob", "db", "make_db", "owner", "stack"]

# CI must answer alike for alike commits; on a developer's machine each run tries other values.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
