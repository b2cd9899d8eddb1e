"""Fixtures of the tests of protect and unprotect with online."""

from __future__ import annotations

from .fix_phases import calls, person

__all__ = ["calls", "person"]
