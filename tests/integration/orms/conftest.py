"""A database for a whole module: a site of Django takes seconds to make."""

from __future__ import annotations

from tests.integration.sql.conftest import shared_db

__all__ = ["shared_db"]
