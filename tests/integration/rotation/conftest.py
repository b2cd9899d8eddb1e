"""Fixtures of the rotation tests: the stack that may be broken, and databases with keys to rotate."""

from __future__ import annotations

from tests.integration.operations.fix_kms_life import breakable, people

from .fix_deks import many_deks
from .fix_jobs import crowd

__all__ = ["breakable", "crowd", "many_deks", "people"]
