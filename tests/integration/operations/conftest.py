"""Fixtures of the operations tests."""

from __future__ import annotations

from .fix_kms_life import breakable, patient, people, quick

__all__ = ["breakable", "patient", "people", "quick"]
