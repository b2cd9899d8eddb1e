"""The way to the rights of the extension's owner: by hand, in a session that never used the package."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure


@pytest.mark.parametrize("role", ["postgres", "alice"])
def test_by_hand_it_is_refused_and_says_no_more(db: Database, role: str) -> None:
    refused = failure(db.connect(role), "SELECT envelope_internal.run_step('postgres')")
    assert refused[:2] == ("42501", "pg_envelope: permission denied")


# What only triggers and the command call, with arguments that these never give.
INNER = [
    "envelope_internal.note_update(NULL, NULL)",
    "envelope_internal.note_update(0, 'other')",
    "envelope_private.keys_return(NULL, NULL, NULL, NULL)",
    "envelope_private.keys_return('default', 'x', '{}', '{a}')",
]


@pytest.mark.parametrize("call", INNER)
def test_by_hand_with_odd_arguments_they_say_that_these_are_not_theirs(db: Database, call: str) -> None:
    assert failure(db.connect(), f"SELECT {call}")[0] == "22023"
