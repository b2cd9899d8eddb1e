"""Fixtures of the rotation tests: the stack that may be broken, and databases with keys to rotate."""

from __future__ import annotations

from tests.integration.operations.fix_kms_life import breakable, people

from .fix_deks import many_deks

__all__ = ["breakable", "many_deks", "people"]
