"""The way to the rights of the extension's owner: by hand, in a session that never used the package."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure


@pytest.mark.parametrize("role", ["postgres", "alice"])
def test_by_hand_it_is_refused_and_says_no_more(db: Database, role: str) -> None:
    refused = failure(db.connect(role), "SELECT envelope_internal.run_step('postgres')")
    assert refused[:2] == ("42501", "pg_envelope: permission denied")
