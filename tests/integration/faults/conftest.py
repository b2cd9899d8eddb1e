"""Fixtures of the tests with values that do not open."""

from __future__ import annotations

from tests.integration.client.test_commands import command
from tests.integration.operations.fix_kms_life import breakable

from .fix_damage import letters, own_letters, scrolls

__all__ = ["breakable", "command", "letters", "own_letters", "scrolls"]
