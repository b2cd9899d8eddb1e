"""Fixtures of the tests of adoption."""

from __future__ import annotations

from tests.integration.erasure.conftest import policy
from tests.integration.sql.conftest import shared_db

__all__ = ["policy", "shared_db"]
