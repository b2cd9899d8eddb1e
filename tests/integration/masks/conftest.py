"""Fixtures of masks: a table of which one role sees masks, and another one values."""

from __future__ import annotations

from .fix_masks import made_roles, masked

__all__ = ["made_roles", "masked"]
