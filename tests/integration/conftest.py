"""Fixtures of all integration tests: a second cluster, made once, when first asked for."""

from __future__ import annotations

from tests.integration.operations.fix_clusters import empty_database, other_cluster

__all__ = ["empty_database", "other_cluster"]
