"""Fixtures for attacks: a protected table whose owner is no superuser."""

from __future__ import annotations

from tests.integration.erasure.conftest import policy
from tests.security.fix_hooks import hostile
from tests.security.fix_people import people

__all__ = ["hostile", "people", "policy"]
