"""The halves of calls that the package makes with its owner's rights: by hand, in a session that never used it."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

HALVES = """
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'envelope'::regnamespace AND obj_description(p.oid, 'pg_proc') LIKE '%by hand it does nothing%'
ORDER BY 1"""


@pytest.mark.parametrize("role", ["postgres", "alice"])
def test_by_hand_they_are_refused_and_say_no_more(db: Database, role: str) -> None:
    halves = [name for (name,) in db.sql(HALVES)]
    assert len(halves) == 5
    for half in halves:
        assert failure(db.connect(role), f"SELECT {half}")[:2] == ("42501", "pg_envelope: permission denied"), half


# What only triggers and the command call, with arguments that these never give.
INNER = [
    "envelope.note_update(NULL, NULL)",
    "envelope.note_update(0, 'other')",
    "envelope_private.adopt(NULL, NULL, NULL, NULL)",
    "envelope_private.adopt('default', 'x', '{}', '{a}')",
]


@pytest.mark.parametrize("call", INNER)
def test_by_hand_with_odd_arguments_they_say_that_these_are_not_theirs(db: Database, call: str) -> None:
    assert failure(db.connect(), f"SELECT {call}")[0] == "22023"
