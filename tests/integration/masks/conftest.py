"""Fixtures of masks: a table of which one role sees masks, and another one values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fix_stack import Database, Fill, Maker

from .fix_masks import made_roles, make_person

__all__ = ["made_roles"]


@pytest.fixture
def own_keys() -> None:
    """For tests that limit reads: the broker counts those of all copies of a table together."""


@pytest.fixture
def db(request: pytest.FixtureRequest, make_db: Maker, filled: Callable[[Fill], Database]) -> Database:
    """A copy of the database that `masked` shows. Tests that need no such table, or keys of its own, get a new one."""
    names = request.fixturenames
    return filled(make_person) if "masked" in names and "own_keys" not in names else make_db()


@pytest.fixture
def masked(request: pytest.FixtureRequest, db: Database) -> Database:
    if "own_keys" in request.fixturenames:
        make_person(db)
    return db
