"""Fixtures of the tests of adoption."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import ADOPT, make_patients
from tests.integration.erasure.conftest import policy
from tests.integration.sql.conftest import shared_db

__all__ = ["policy", "shared_db"]

TRIGGER = """
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.name := NEW.name || ''!''; RETURN NEW; END';
CREATE TRIGGER note BEFORE INSERT OR UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION note()"""
ROW_SECURITY = """
ALTER TABLE patient ENABLE ROW LEVEL SECURITY; CREATE POLICY visible ON patient USING (id < 100000);
GRANT SELECT, INSERT, UPDATE, DELETE ON patient TO alice"""


@pytest.fixture(params=["as owner", "trigger", "row security"])
def patients(db: Database, request: pytest.FixtureRequest) -> Database:
    """The table while it is being adopted, in each of the ways in which a write reaches the base table."""
    make_patients(db)
    if request.param != "as owner":
        db.sql(TRIGGER if request.param == "trigger" else ROW_SECURITY)
    db.sql("GRANT ALL ON patient TO alice")
    db.sql(ADOPT)
    return db
