"""Fixtures of the tests of searches."""

from __future__ import annotations

from tests.integration.sql.conftest import shared_db

__all__ = ["shared_db"]
