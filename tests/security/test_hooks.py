"""Hostile code at every hook that PostgreSQL offers a table's owner, under each procedure that a superuser calls."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

from .fix_hooks import AFTER, ESCAPES, HOOKS, LEAVES, REFUSED, RUNS, TABLES, attacks, session, superuser

COLUMNS = '["secret", "in_domain", "in_nest", "in_array", "in_pair", "in_mood"]'
HASH = "CALL envelope.hash_passwords('t', 'password')"
PROTECT = f"CALL envelope.protect('t', '{COLUMNS}')"
PROTECT_TENANTS = f"CALL envelope.protect('t', '{COLUMNS}', scope => 'tenant', scope_column => 'whose')"
REENCRYPT = "CALL envelope.reencrypt('t', 2)"
UNPROTECT = "CALL envelope.unprotect('t')"
# Each changes the table so that the next step has something to do; run by the owner.
ADD = "ALTER TABLE t_encrypted ADD added int DEFAULT 1"
RENAME = "ALTER TABLE t_encrypted RENAME n TO m"
BACK = "ALTER TABLE t_encrypted RENAME m TO n"
DUE = "SELECT envelope.set_schedule('dek', '1 microsecond', 'public.t', transition => '0', reencrypt => true)"
# In the order of a table's life. What begins with SELECT or is in ONE runs in a transaction block, too.
TABLE_LIFE = (
    HASH,
    PROTECT,
    "SELECT * FROM envelope.status()",
    ADD,
    "CALL envelope.refresh('t')",
    RENAME,
    "CALL envelope.refresh('t')",
    BACK,
    "CALL envelope.refresh('t')",
    "SELECT envelope.rotate('t')",
    "SELECT envelope.rotate_field('t', 'secret')",
    """CALL envelope.add_search('t', 'secret', '{"exact": {"force": true}}')""",
    "CALL envelope.rotate_search('t', 'secret')",
    "CALL envelope.drop_search('t', 'secret')",
    REENCRYPT,
    "SELECT envelope.receipt('t')",
    "SELECT envelope.compromise('t', 1)",
    "CALL envelope.rotate_emergency('t', 'drill')",
    "CALL envelope.retire('t', 1)",
    "CALL envelope.unsuspend('t')",
    DUE,
    "CALL envelope.rotate_due()",
    "CALL envelope.rotate_kek('default')",
    "CALL envelope.rewrap('default')",
    "CALL envelope.move_kek('default', 'default', 'catalog', 't')",
    "SELECT envelope.renew_capabilities()",
    "SELECT envelope.replay_erasures()",
    "CALL envelope.verify('t')",
    "SELECT * FROM envelope.verify_keys()",
    "SELECT envelope.this_is_the_original()",
    "SELECT envelope.pause('t'), envelope.resume('t'), envelope.abort('t')",
    UNPROTECT,
    PROTECT,
    "CALL envelope.shred('t', reason => 'drill')",
)
TENANT_LIFE = (
    HASH,
    PROTECT_TENANTS,
    "SELECT envelope.prefetch('t', '{s0,s1}')",
    "SELECT envelope.rotate('t', 's1')",
    REENCRYPT,
    "CALL envelope.suspend('t', 's1')",
    "CALL envelope.unsuspend('t', 's1')",
    "SELECT envelope.tenant_kek('t', 's1', 'default')",
    RENAME,
    "CALL envelope.refresh('t')",
    "SELECT * FROM envelope.status()",
    UNPROTECT,
    PROTECT_TENANTS,
    "CALL envelope.shred('t', 's1', 'drill')",
)
# The values are read again, by the event trigger of a command.
TYPES = ("ALTER TYPE mood ADD VALUE 'middling'", "ALTER DOMAIN sly_int ADD CHECK (VALUE < 1000)")
LIVES = {"one key": (*TABLE_LIFE[:-3], *TYPES, *TABLE_LIFE[-3:]), "a key for each tenant": TENANT_LIFE}
OWNERS = {ADD, RENAME, BACK}
ONE = ("CALL envelope.protect", "CALL envelope.unprotect", "CALL envelope.refresh", "SELECT")


class Life:
    """A table's life in one session of a superuser, which is compared after each step."""

    def __init__(self, db: Database, owner: psycopg.Connection[Any], hooks: tuple[str, ...]) -> None:
        self._db, self._owner = db, owner
        for hook in hooks:
            owner.execute(hook)
        self._superuser = superuser(db)
        self._before = session(self._superuser)
        self.failed: dict[str, str] = {}
        self.changed: dict[str, object] = {}

    def run(self, steps: tuple[str, ...]) -> None:
        for step in steps:
            if step in OWNERS:
                self._owner.execute(step)
            else:
                with attacks(self._db, (*LEAVES, *ESCAPES)):
                    self._step(step)
            if step in (PROTECT, PROTECT_TENANTS) and step == steps[-1]:
                for hook in AFTER:
                    self._owner.execute(hook)

    def _step(self, step: str) -> None:
        block = self._superuser.transaction() if step.startswith(ONE) else nullcontext()
        try:
            with block:
                self._superuser.execute(step)
                self._compare(f"{step}, before the commit")
        except psycopg.Error as error:
            self.failed[step] = f"{error.sqlstate} {error.diag.message_primary} {error.diag.message_detail}"
        self._compare(step)

    def _compare(self, step: str) -> None:
        if changed := session(self._superuser) ^ self._before:
            self.changed[step] = changed


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("table", TABLES)
def test_the_session_is_what_it_was(db: Database, hostile: psycopg.Connection[Any], table: str, life: str) -> None:
    lived = Life(db, hostile, TABLES[table])
    steps = LIVES[life]
    first = steps.index(PROTECT if PROTECT in steps else PROTECT_TENANTS) + 1
    lived.run(steps[:first])
    lived.run(steps[first:])
    assert lived.changed == {}
    assert lived.failed == {}
    assert db.sql("SELECT DISTINCT who FROM seen") == [("owner",)]
    assert RUNS[table] - {code for (code,) in db.sql("SELECT DISTINCT code FROM seen")} == set()


# Minor versions since 17.12 refuse these to the owner's code: the statement that ran it goes on.
REFUSED_BY_THE_SERVER = [tried for tried in REFUSED if tried.startswith(("CREATE DOMAIN", "CREATE TYPE"))]


def refusal(db: Database, connection: psycopg.Connection[Any], step: str, tried: str) -> str | None:
    """What stops a step while the owner's code tries this; None when nothing does."""
    with attacks(db, (tried,)):
        try:
            connection.execute(step)
        except psycopg.errors.InsufficientPrivilege as error:
            return error.diag.message_primary
    return None


@pytest.mark.parametrize("tried", REFUSED)
def test_what_cannot_be_taken_back_is_refused(db: Database, hostile: psycopg.Connection[Any], tried: str) -> None:
    """And what the statement did is undone; the next one goes on where it was."""
    for hook in HOOKS:
        hostile.execute(hook)
    connection = superuser(db)
    for step, state in (
        (HASH, "SELECT count(*) FROM t WHERE password LIKE '$2a$12$%'"),
        (PROTECT, "SELECT count(*) FROM envelope.columns"),
        ("SELECT envelope.rotate('t')", "SELECT count(*) FROM seen"),
        (REENCRYPT, "SELECT count(DISTINCT substr(secret, 1, 6)) FROM t_encrypted"),
        (UNPROTECT, "SELECT count(*) FROM envelope.columns"),
    ):
        before = db.one(state)
        if not step.startswith("SELECT"):
            # An attack on the step before may have given the lock back.
            connection.execute("SELECT pg_advisory_unlock_all(), pg_advisory_lock(1)")
            message = refusal(db, connection, step, tried)
            assert not [found for found in session(connection) if found[0] == "temporary" and found[1] != "pg_class"]
            if message is None and tried in REFUSED_BY_THE_SERVER:
                continue
            assert message == "pg_envelope: the table's own code changed the session of its caller"
            assert db.one(state) == before
        db.sql(step)
    assert db.sql("SELECT id, secret FROM t ORDER BY id") == [(1, "x"), (2, "x"), (3, "x")]


@pytest.mark.usefixtures("hostile")
def test_the_attacks_are_some(db: Database) -> None:
    """The control: without the package in between, the same code changes the superuser's session."""
    vain = []
    for tried in (*LEAVES, *REFUSED):
        connection = superuser(db)
        before = session(connection)
        with attacks(db, (tried,)), connection.transaction():
            connection.execute("SELECT attack('control')")
            changed = session(connection) != before
        if not changed and session(connection) == before:
            vain.append(tried)
        connection.close()
        db.sql("ALTER ROLE owner NOSUPERUSER")
        db.sql("REVOKE pg_execute_server_program FROM owner")
    assert vain == []
