"""Fixtures of the access matrix: a masked and a searchable column, and roles that go with the test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fix_stack import Database, Fill, Maker
from tests.integration.masks.fix_masks import made_roles

from .fix_access import fill_shop, group, shop

__all__ = ["group", "made_roles", "shop"]


@pytest.fixture
def db(request: pytest.FixtureRequest, make_db: Maker, filled: Callable[[Fill], Database]) -> Database:
    """A copy with the table of `shop` for tests that want it, as none destroys a key; else a new database."""
    return filled(fill_shop) if "shop" in request.fixturenames else make_db()
