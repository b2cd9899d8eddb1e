"""Fixtures of the operations tests."""

from __future__ import annotations

from .fix_clusters import empty_database, other_cluster
from .fix_kms_life import breakable, people, quick

__all__ = ["breakable", "empty_database", "other_cluster", "people", "quick"]
