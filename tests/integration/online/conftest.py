"""Fixtures of the tests of protect and unprotect with online."""

from __future__ import annotations

from .fix_phases import person

__all__ = ["person"]
