"""Fixtures of the schedule tests: the stack that may be broken, and one that may be crashed."""

from __future__ import annotations

from tests.integration.erasure.conftest import policy
from tests.integration.operations.fix_kms_life import breakable, people
from tests.integration.rotation.fix_deks import many_deks

__all__ = ["breakable", "many_deks", "people", "policy"]
