"""Fixtures for attacks: a protected table whose owner is no superuser."""

from __future__ import annotations

from tests.security.fix_people import people

__all__ = ["people"]
