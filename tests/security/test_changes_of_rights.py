"""A session that knows a right hears of every change of it, in whatever order sessions and transactions make changes.

PostgreSQL itself says who has the right: has_column_privilege, and pg_has_role for the grants of a named key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus

from tests.fix_stack import Database
from tests.integration.sql.conftest import shared_db
from tests.security.fix_people import DENIED, field_uuid

__all__ = ["shared_db"]

Session = psycopg.Connection[Any]
TABLE = """
CREATE TABLE note (id int PRIMARY KEY, body text);
ALTER TABLE note OWNER TO {owner}; ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON note USING (true);
INSERT INTO note VALUES (1, 'x');
CALL envelope.protect('note', '["body"]'); GRANT SELECT ON note_encrypted TO PUBLIC;
SELECT envelope.create_key('k')"""
MEMBER = ("GRANT {group} TO {reader}", "REVOKE {group} FROM {reader}")
INHERIT = ("ALTER ROLE {reader} INHERIT", "ALTER ROLE {reader} NOINHERIT")
# Each as an act and what undoes it.
RIGHTS = (
    ("GRANT SELECT ON note TO {reader}", "REVOKE SELECT ON note FROM {reader}"),
    ("GRANT SELECT (body) ON note TO {reader}", "REVOKE SELECT (body) ON note FROM {reader}"),
    ("GRANT SELECT ON note TO {group}", "REVOKE SELECT ON note FROM {group}"),
    MEMBER,
    ("GRANT {owner} TO {group}", "REVOKE {owner} FROM {group}"),
    INHERIT,
    ("SELECT envelope.grant_key('k', '{reader}')", "SELECT envelope.revoke_key('k', '{reader}')"),
    ("SELECT envelope.grant_key('k', '{group}')", "SELECT envelope.revoke_key('k', '{group}')"),
)
# In the session that reads. The others fail, harmlessly, where no transaction or savepoint is open.
STEPS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "CREATE TEMP TABLE IF NOT EXISTS writes ()")
ROTATE = "SELECT envelope.rotate_key('k')"
# A session gives or takes a right, in turns, or runs a statement.
CHANGES = st.sampled_from(RIGHTS)
MOVES = st.tuples(st.just("other"), CHANGES | st.just(ROTATE)) | st.tuples(
    st.just("own"), CHANGES | st.sampled_from([ROTATE, *STEPS])
)
ORDERS = st.lists(MOVES, min_size=4, max_size=14)
MAY_READ = """
SELECT has_column_privilege('{reader}', 'note', 'body', 'SELECT') OR pg_has_role('{reader}', '{owner}', 'USAGE')"""
MAY_DECRYPT = """
SELECT EXISTS (SELECT FROM envelope_private.key_grant WHERE pg_has_role('{reader}', role, 'USAGE'))"""


class World:
    """One session that reads as a role, and one that makes changes beside it."""

    def __init__(self, db: Database, names: dict[str, str]) -> None:
        self._names = names
        self._given: dict[tuple[str, str], bool] = {}
        self.own, self._other = db.connect(), db.connect()
        self._other.execute("SET lock_timeout = '1ms'")
        body = f"SELECT envelope_internal.decrypt_text_as_role(body, '{field_uuid(db, 'body', 'note')}', '1')"
        envelope = db.one("SELECT envelope.encrypt('x', 'k')::bytea")
        self._checks = (
            (MAY_READ, f"{body} FROM note_encrypted", None),
            (MAY_DECRYPT, "SELECT envelope.decrypt(%s)", [envelope]),
            (MAY_DECRYPT, "SELECT envelope.decrypt(envelope.encrypt('x', 'k'))", None),
        )

    def do(self, who: str, what: str | tuple[str, str]) -> None:
        """Where the session that reads holds a lock, or a step is out of place, nothing happens."""
        if isinstance(what, tuple):
            given = self._given[what] = not self._given.get(what)
            what = what[not given]
        try:
            (self.own if who == "own" else self._other).execute(what.format(**self._names))
        except psycopg.Error:
            if self.own.info.transaction_status == TransactionStatus.INERROR:
                self.own.execute("ROLLBACK")

    def start_anew(self) -> None:
        self.own.execute("ROLLBACK")
        for _, undo in RIGHTS:
            self.do("other", undo)
        self._given = {INHERIT: True}
        self.do("other", INHERIT[0])

    def check(self) -> None:
        """In a transaction, a session hears of what others do to privileges at some statement, and not at the next:
        PostgreSQL's answer may change while ours is asked for.
        """
        for truth, statement, values in self._checks:
            before, found, after = self._truth(truth), self._as_reader(statement, values), self._truth(truth)
            assert found in (before, after), statement

    def _truth(self, query: str) -> str:
        (allowed,) = self.own.execute(query.format(**self._names)).fetchone() or (None,)
        return "x" if allowed else DENIED

    def _as_reader(self, statement: str, values: list[Any] | None) -> str | None:
        """Returns the value, or the SQLSTATE."""
        in_block = self.own.info.transaction_status == TransactionStatus.INTRANS
        if in_block:
            self.own.execute("SAVEPOINT try")
        self.own.execute("SET ROLE {reader}".format(**self._names))
        try:
            return str((self.own.execute(statement, values).fetchone() or ("",))[0])
        except psycopg.Error as error:
            return error.sqlstate
        finally:
            self.own.execute("ROLLBACK TO try; RELEASE try" if in_block else "RESET ROLE")


@pytest.fixture(scope="module")
def world(shared_db: Database) -> Iterator[World]:
    """One for all tests: each starts anew."""
    db, names = shared_db, {name: f"{name}_{os.urandom(4).hex()}" for name in ("owner", "group", "reader")}
    for name in names.values():
        db.sql(f"CREATE ROLE {name}")
    try:
        db.sql(TABLE.format(**names))
        yield (world := World(db, names))
        world.start_anew()
    finally:
        db.sql("DROP TABLE IF EXISTS note")
        for name in names.values():
            db.sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


@settings(max_examples=40, deadline=None)
@given(order=ORDERS)
def test_every_change_counts_from_the_next_statement(world: World, order: list[tuple[str, Any]]) -> None:
    world.start_anew()
    world.check()
    for who, what in order:
        world.do(who, what)
        world.check()


@pytest.mark.parametrize("right", RIGHTS, ids=[give for give, _ in RIGHTS])
def test_a_transaction_gives_and_takes_for_itself(world: World, right: tuple[str, str]) -> None:
    for given_before in (False, True):
        world.start_anew()
        world.do("other", MEMBER[0])
        world.do("other", right[not given_before])
        world.check()
        for what in ("BEGIN", right[given_before], "ROLLBACK"):
            world.do("own", what)
            world.check()
