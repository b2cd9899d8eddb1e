"""Whole schemas, each with its own difficulties: one call per table protects them, and another one gives them back.

Every table and view answers alike throughout, for the superuser and for who was granted something.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database
from tests.integration.dependents.fix_facts import digest, dump, facts
from tests.integration.rotation.fix_jobs import Beside

FOLDER = Path(__file__).parent / "schemas"


class World(NamedTuple):
    """Schemas of one file, and the columns to protect, by table."""

    schemas: tuple[str, ...]
    protected: dict[str, list[str] | dict[str, object]]


WORLDS = {
    "films": World(
        ("films",),
        {
            "films.place": ["street", "phone"],
            "films.patron": ["first_name", "last_name", "email", "joined"],
            "films.money": {"card": {"bind": "column"}},
        },
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
# Search columns are no part of a table's own answer, and partitions are read through the whole table.
RELATIONS = """
SELECT c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'v', 'm', 'p') AND NOT c.relispartition
    AND c.relname NOT LIKE '%%\\_encrypted' AND a.attnum > 0 AND NOT a.attisdropped
    AND t.typnamespace <> 'envelope_search'::regnamespace
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


BLOCKED = "SELECT %s = ANY (pg_blocking_pids(%s))"


class OneSession(Database):
    """Gives the same session to all jobs: Python takes long to start in each."""

    def connect(self, user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        return self.admin if "admin" in vars(self) else super().connect(user, **options)


def phases(db: Database, jobs: OneSession, table: str, call: str) -> Iterator[str]:
    """Holds a roll-out up where it has begun, where one row is left, and where only older snapshots are left."""
    with db.connect() as reader, db.connect() as holder:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        holder.execute("BEGIN; LOCK TABLE envelope_private.job IN ROW EXCLUSIVE MODE")
        job = Beside(jobs, f"CALL envelope.{call}")
        until_blocked(db, job, holder)
        yield "begun"
        with db.connect() as writer:
            writer.execute(f"BEGIN; SELECT FROM {base(table)} LIMIT 1 FOR UPDATE")
            holder.execute("ROLLBACK")
            until_blocked(db, job, writer)
            yield "one row is left"
            writer.execute("ROLLBACK")
        wait_until(lambda: any("waiting for" in told for told in job.notices) or not job.alive, 60, "older snapshots")
        yield "older snapshots"
        reader.execute("ROLLBACK")
        assert job.end() is None


def until_blocked(db: Database, job: Beside, by: psycopg.Connection[Any]) -> None:
    """It may wait for others before, autovacuum among them."""
    blocked = (by.info.backend_pid, job.pid)
    wait_until(lambda: db.one(BLOCKED, *blocked) or not job.alive, 60, "a lock")
    assert job.alive, (job.error, job.error and job.error.diag.message_detail)


def base(table: str) -> str:
    return f'{table[:-1]}_encrypted"' if table.endswith('"') else f"{table}_encrypted"


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


def test_a_whole_schema_there_and_back_in_use(world: tuple[Database, World]) -> None:
    """No phase of a roll-out changes an answer, and the schema is the same again afterwards."""
    db, found = world
    before, dumped, read = facts(db, found.protected), dump(db, *found.schemas), answers(db, found)
    with OneSession(db.stack, db.name) as jobs:
        for table, columns in found.protected.items():
            for phase in phases(db, jobs, table, f"protect('{table}', '{json.dumps(columns)}', online => true)"):
                assert answers(db, found) == read, (table, phase)
            assert answers(db, found) == read, table
            assert facts(db, found.protected) == before, table
        for table in found.protected:
            for phase in phases(db, jobs, table, f"unprotect('{table}', online => true)"):
                assert answers(db, found) == read, (table, phase)
            assert answers(db, found) == read, table
            assert facts(db, found.protected) == before, table
    assert dump(db, *found.schemas) == dumped
