"""Fixtures of the tests of adoption."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database, Fill
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


@functools.cache
def fill(way: str) -> Fill:
    """Makes the table while it is being adopted, in one of the ways in which a write reaches the base table."""

    def make(db: Database) -> None:
        make_patients(db)
        if way != "as owner":
            db.sql(TRIGGER if way == "trigger" else ROW_SECURITY)
        db.sql("GRANT ALL ON patient TO alice")
        db.sql(ADOPT)

    return make


@pytest.fixture(params=["as owner", "trigger", "row security"])
def patients(filled: Callable[[Fill], Database], request: pytest.FixtureRequest) -> Database:
    """A copy, for tests that destroy no key."""
    return filled(fill(request.param))


@pytest.fixture
def alice(patients: Database) -> psycopg.Connection[Any]:
    """One session for all that she does in a test."""
    return patients.connect("alice")
