"""A database for a whole module: a site of Django takes seconds to make."""

from __future__ import annotations

from tests.integration.fix_browser import browser, chromium
from tests.integration.sql.conftest import shared_db

__all__ = ["browser", "chromium", "shared_db"]
