"""A database for a whole module: a site of Django takes seconds to make."""

from __future__ import annotations

from tests.integration.fix_browser import browser
from tests.integration.sql.conftest import shared_db

__all__ = ["browser", "shared_db"]
