"""Fixtures of the operations tests."""

from __future__ import annotations

from .fix_kms_life import breakable, people, quick

__all__ = ["breakable", "people", "quick"]
