"""What a DBA is told: hours of a slow derivation, pace and key of an adoption, the index that became another."""

from __future__ import annotations

import re

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import ADOPT, CONVERT, make_case, make_patients
from tests.unit.foreign.fix_cases import CASES

STATE = "SELECT key, key_state, state, rows_per_second > 0 FROM envelope.adoption"


def test_inspect_tells_the_hours_of_a_slow_derivation(db: Database) -> None:
    make_case(db, CASES["node_pbkdf2"], "text")
    told = "SELECT detail FROM envelope.inspect('legacy', 'value', key => 'old') WHERE format = 'node_json_pbkdf2'"
    detail = db.sql(f"{told} AND opens = 1")[0][0]
    assert re.fullmatch(r"each value has a key of its own: [1-9]\d* ms a value, \d+\.\d hours", detail)


def test_the_adoption_tells_its_pace_and_the_state_of_the_key(db: Database) -> None:
    make_patients(db, 500)
    db.sql(ADOPT)
    assert db.sql(STATE) == [("legacy", "usable", None, None)]
    db.sql(CONVERT)
    assert db.sql(STATE) == [("legacy", "usable", "done", True)]


def test_adopt_tells_that_an_index_is_another_now(db: Database) -> None:
    make_patients(db, more=" UNIQUE")
    told: dict[str, tuple[str, str]] = {}
    db.admin.add_notice_handler(
        lambda report: told.update(
            {report.message_primary or "": (report.message_detail or "", report.message_hint or "")}
        )
    )
    db.sql(ADOPT)
    detail, hint = told["UNIQUE constraint patient_ssn_key is a unique token index on (ssn_search) now"]
    assert "compares values in the clear" in detail
    assert "ssn_search = '...'" in hint
