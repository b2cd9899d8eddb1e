"""Whole schemas, each with its own difficulties: one call per table protects them, and another one gives them back.

Every table and view answers alike throughout, for the superuser and for who was granted something.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.dependents.fix_facts import digest, dump, facts

FOLDER = Path(__file__).parent / "schemas"


class World(NamedTuple):
    """Schemas of one file, and the columns to protect, by table."""

    schemas: tuple[str, ...]
    protected: dict[str, list[str]]


WORLDS = {
    "films": World(
        ("films",),
        {"films.place": ["street", "phone"], "films.patron": ["first_name", "last_name", "email", "joined"]},
    ),
    "store": World(
        ("person", "staff", "sales", "goods", "buying"),
        {
            "person.contact": ["first_name", "middle_name", "last_name", "email", "phone", "extra"],
            'person."Home Address"': ["line", "post_code", "place"],
            "staff.employee": ["national_id", "born", "salary"],
            "buying.vendor": ["account"],
            "sales.card": ["number", "expires"],
            "sales.orders": ["note", "amount"],
        },
    ),
    "hr": World(
        ("hr",),
        {
            "hr.employee": ["full_name", "ssn", "salary", "bonus"],
            "hr.review": ["words"],
            "hr.absence": ["reason"],
        },
    ),
    "keys": World(
        ("ports",),
        {
            "ports.port": ["master", "phone"],
            "ports.ship": ["name", "owner_name", "papers"],
            "ports.call": ["agent", "cargo"],
            "ports.land": ["capital"],
        },
    ),
    "crm": World(
        ("crm",),
        {
            "crm.account": ["vat"],
            "crm.lead": ["name", "phone", "email", "tags", "settings"],
            "crm.note": ["body"],
        },
    ),
}
# Search columns are no part of a table's own answer.
RELATIONS = """
SELECT c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'v', 'm', 'p') AND c.relname NOT LIKE '%%\\_encrypted'
    AND a.attnum > 0 AND NOT a.attisdropped AND t.typnamespace <> 'envelope_search'::regnamespace
GROUP BY 1 ORDER BY 1"""
ROLES = ("alice", "bob")


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest, db: Database) -> tuple[Database, World]:
    db.sql((FOLDER / f"{request.param}.sql").read_text())
    db.sql("REVOKE CREATE ON SCHEMA public FROM owner")
    return db, WORLDS[request.param]


def answers(db: Database, found: World) -> dict[str, dict[str, str]]:
    """Digests of every relation, by role; "denied" where a role may not read."""
    relations = dict(db.sql(RELATIONS, list(found.schemas)))
    read = {}
    for role in ("postgres", *ROLES):
        db.sql(f"SET ROLE {role}")
        read[role] = {name: answer(db, f"(SELECT {columns} FROM {name})") for name, columns in relations.items()}
        db.sql("RESET ROLE")
    return read


def answer(db: Database, query: str) -> str:
    try:
        return digest(db, query)[query]
    except psycopg.errors.InsufficientPrivilege:
        return "denied"


def test_a_whole_schema_there_and_back(world: tuple[Database, World]) -> None:
    db, found = world
    before, dumped, read = facts(db, found.protected), dump(db, *found.schemas), answers(db, found)
    assert len({value for values in read.values() for value in values.values()}) > len(ROLES), "they read something"
    for table, columns in found.protected.items():
        db.sql("CALL envelope.protect(%s::regclass, %s)", table, json.dumps(columns))
        assert answers(db, found) == read, table
        assert facts(db, found.protected) == before, table
    for table in found.protected:
        db.sql("CALL envelope.unprotect(%s::regclass)", table)
        assert answers(db, found) == read, table
        assert facts(db, found.protected) == before, table
    assert dump(db, *found.schemas) == dumped
