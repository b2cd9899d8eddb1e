"""The broker killed, restarted, or answering wrongly: warm sessions go on for their time, all recover by themselves."""

from __future__ import annotations

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database

from .fix_kms_life import READ, answers, failure

WAIT = 60


def test_warm_sessions_go_on_without_a_broker_and_new_ones_get_a_clear_error(
    breakable: Stack, people: Database
) -> None:
    warm, other = people.connect(), people.connect()
    assert answers(warm)
    breakable.broker.kill()
    warm.execute("UPDATE person SET email = 'changed' WHERE id = 1")
    assert warm.execute(READ).fetchone() == ("changed",)
    sqlstate, text, hint = failure(other, READ)
    assert (sqlstate, text) == ("58000", "pg_envelope: the key broker is not running")
    assert "pg-envelope" in hint
    breakable.broker.start()
    assert answers(warm)
    assert answers(other), "without a new connection"


def test_warm_sessions_end_with_their_time_to_live(quick: Stack, people: Database) -> None:
    warm = people.connect()
    assert answers(warm)
    quick.broker.kill()
    wait_until(lambda: not answers(warm), WAIT, "the end of the session's time")
    assert failure(warm, READ)[:2] == ("58000", "pg_envelope: the key broker is not running")
    quick.broker.start()
    assert answers(warm)


def test_a_failed_statement_leaves_its_transaction_usable_to_a_savepoint(breakable: Stack, people: Database) -> None:
    breakable.broker.stop()
    with people.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO person (id) VALUES (3)")
        connection.execute("SAVEPOINT before")
        assert failure(connection, READ)[0] == "58000"
        connection.execute("ROLLBACK TO before")
        breakable.broker.start()
        assert connection.execute(READ).fetchone() == ("a@b.c",)
    assert people.one("SELECT count(*) FROM person") == 3


def test_new_keys_without_a_broker_are_refused_and_nothing_changes(breakable: Stack, people: Database) -> None:
    breakable.broker.stop()
    before = people.sql("SELECT * FROM envelope.keys")
    for statement in ("SELECT envelope.rotate('person')", "SELECT envelope.create_key('new')"):
        assert failure(people.admin, statement)[:2] == ("58000", "pg_envelope: the key broker is not running")
    assert people.sql("SELECT * FROM envelope.keys") == before


def test_flush_empties_every_session(breakable: Stack, people: Database) -> None:
    warm = people.connect()
    assert answers(warm)
    people.sql("SELECT envelope.flush('suspicion')")
    breakable.broker.kill()
    assert failure(warm, READ)[0] == "58000"
    assert '"suspicion"' in breakable.broker.audit_log.read_text()


def test_a_restarted_server_begins_cold_and_reads(breakable: Stack, people: Database) -> None:
    name = people.name
    people.close()
    breakable.cluster.restart()
    with breakable.connect(name) as connection:
        assert connection.execute(READ).fetchone() == ("a@b.c",)
