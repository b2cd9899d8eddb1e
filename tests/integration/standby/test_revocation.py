"""What is taken away on the primary ends on a standby once it is replayed: with one broker and with two."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import READ, failure

# WAIT is far below session_ttl_seconds, 300: what ends a key is not its time.
from .conftest import WAIT, Connect, MakeStandby, go_on, hold_up

Connection = psycopg.Connection[Any]
STATE = "SELECT state FROM envelope.keys WHERE relation IS NOT NULL"
REVOKE = "CALL envelope.suspend('person', reason => 'test')"
SHRED = "CALL envelope.shred('person', reason => 'test')"


def state(session: Connection) -> str:
    row = session.execute(STATE).fetchone()
    assert row is not None
    return str(row[0])


def message(session: Connection) -> str | None:
    """None when the value can be read."""
    try:
        session.execute(READ)
    except psycopg.Error as error:
        return str(error.diag.message_primary)
    return None


@pytest.fixture
def warm(connect: Connect, standby: Cluster) -> Connection:
    """A session of the standby that holds the key."""
    session = connect(standby)
    assert session.execute(READ).fetchone() == ("a@b.c",)
    return session


def test_a_suspended_key_ends_with_its_replay(people: Database, warm: Connection) -> None:
    hold_up(warm)
    people.sql(REVOKE)
    assert (message(warm), state(warm)) == (None, "active"), "the standby knows nothing yet, and loads the key anew"
    go_on(warm)
    wait_until(lambda: state(warm) == "suspended", WAIT, "replay")
    wait_until(lambda: message(warm) == "pg_envelope: the key is suspended", WAIT, "the end of the key")
    people.sql("CALL envelope.unsuspend('person')")
    wait_until(lambda: message(warm) is None, WAIT, "its return")


def test_a_right_to_a_named_key_ends_with_its_replay(people: Database, standby: Cluster, connect: Connect) -> None:
    """The standby hears of the change by the commit that it replays."""
    people.sql("SELECT envelope.create_key('k'), envelope.grant_key('k', 'alice')")
    envelope = people.one("SELECT envelope.encrypt('x', 'k')::bytea")
    session = connect(standby)
    wait_until(lambda: session.execute("SELECT FROM envelope.keys WHERE name = 'k'").rowcount == 1, WAIT, "replay")
    session.execute("SET ROLE alice")

    def denied() -> bool:
        try:
            session.execute("SELECT envelope.decrypt(%s)", [envelope])
        except psycopg.errors.InsufficientPrivilege:
            return True
        return False

    wait_until(lambda: not denied(), WAIT, "the grant")
    people.sql("SELECT envelope.revoke_key('k', 'alice')")
    wait_until(denied, WAIT, "the end of the right")


@pytest.mark.usefixtures("policy")
def test_a_shredded_key_ends_with_its_replay(people: Database, warm: Connection, standby: Cluster) -> None:
    hold_up(warm)
    people.sql(SHRED)
    own_broker = standby.environment["PG_ENVELOPE_SOCKET"] != str(people.stack.broker.socket)
    # The broker that shreds knows it at once.
    assert message(warm) == (None if own_broker else "pg_envelope: the key was destroyed")
    assert state(warm) == "active"
    go_on(warm)
    wait_until(lambda: state(warm) == "destroyed", WAIT, "replay")
    wait_until(lambda: message(warm) == "pg_envelope: the key was destroyed", WAIT, "the end of the key")


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("statement", [REVOKE, SHRED])
def test_an_older_snapshot_gives_no_key_away(
    people: Database, standby: Cluster, connect: Connect, statement: str
) -> None:
    """Its catalog shows the key as active, also when the change itself has been replayed."""
    session, other = connect(standby, autocommit=False), connect(standby)
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    assert state(session) == "active"
    people.sql(statement)
    wait_until(lambda: state(other) != "active", WAIT, "replay")
    wait_until(lambda: message(other) is not None, WAIT, "the end of the key")
    assert state(session) == "active"
    assert failure(session, READ)[0] == "40001"
    session.rollback()
    assert message(session) is not None


def test_a_named_key_ends_with_its_replay(people: Database, warm: Connection) -> None:
    people.sql("SELECT envelope.create_key('app')")
    people.sql("CREATE TABLE note (value envelope.ciphertext)")
    people.sql("INSERT INTO note VALUES (envelope.encrypt('secret'::text, 'app'))")
    reading = "SELECT envelope.decrypt(value) FROM note"
    wait_until(lambda: warm.execute("SELECT to_regclass('note') IS NOT NULL").fetchone() == (True,), WAIT, "replay")
    wait_until(lambda: warm.execute(reading).fetchone() == ("secret",), WAIT, "replay")
    people.sql("CALL envelope.suspend_key('app', 'test')")

    def refused() -> bool:
        try:
            warm.execute(reading)
        except psycopg.Error as error:
            return str(error.diag.message_primary) == "pg_envelope: the key is suspended"
        return False

    wait_until(refused, WAIT, "the end of the key")


@pytest.mark.usefixtures("people")
def test_once_promoted_it_is_a_primary(stack: Stack, make_standby: MakeStandby, connect: Connect) -> None:
    session = connect(make_standby(stack.broker))
    assert session.execute(READ).fetchone() == ("a@b.c",)
    session.execute("SELECT pg_promote()")
    assert session.execute(READ).fetchone() == ("a@b.c",)
    session.execute(REVOKE)
    assert message(session) == "pg_envelope: the key is suspended"
    session.execute("CALL envelope.unsuspend('person')")
    assert message(session) is None


@pytest.mark.usefixtures("policy")
def test_status_on_a_standby_advises_what_can_be_done_there(
    people: Database, standby: Cluster, connect: Connect
) -> None:
    check = "SELECT state, hint FROM envelope.status() WHERE check_name = 'erasures'"
    session = connect(standby)
    assert session.execute(check).fetchone() == ("ok", None)
    hold_up(session)
    people.sql(SHRED)
    own_broker = standby.environment["PG_ENVELOPE_SOCKET"] != str(people.stack.broker.socket)
    if own_broker:
        go_on(session)
        wait_until(lambda: state(session) == "destroyed", WAIT, "replay")
    told = session.execute(check).fetchone()
    assert told is not None
    assert told[0] == "warning"
    assert "replay_erasures" not in told[1]
    assert ("pg-envelope erasures export" if own_broker else "has not replayed") in told[1]
    if not own_broker:
        go_on(session)
        wait_until(lambda: session.execute(check).fetchone() == ("ok", None), WAIT, "replay")
    assert failure(session, "SELECT envelope.replay_erasures()")[0] == "25006"
