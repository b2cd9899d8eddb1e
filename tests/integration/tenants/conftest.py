"""Fixtures of the tests about suspension, tenants and moves: the stack that may be broken, its KEKs and tables."""

from __future__ import annotations

from tests.integration.operations.fix_kms_life import breakable, people
from tests.integration.rotation.fix_deks import many_deks

from .fix_byok import docs, own
from .fix_keks import keks, with_keks

__all__ = ["breakable", "docs", "keks", "many_deks", "own", "people", "with_keks"]
