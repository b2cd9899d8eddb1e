"""Fixtures for all tests: one stack (PostgreSQL, OpenBao, broker) per worker, made when first asked for."""

from __future__ import annotations

from tests.fix_stack import alice, bob, db, make_db, owner, stack

__all__ = ["alice", "bob", "db", "make_db", "owner", "stack"]
