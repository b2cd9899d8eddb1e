"""Fixtures of the access matrix: a masked and a searchable column, and roles that go with the test."""

from __future__ import annotations

from tests.integration.masks.fix_masks import made_roles

from .fix_access import group, shop

__all__ = ["group", "made_roles", "shop"]
