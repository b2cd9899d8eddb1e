"""A roll-out does not end while a standby has a transaction that would read NULL for a value afterwards."""

from __future__ import annotations

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.standby.conftest import WAIT, MakeStandby

PROTECT = "CALL envelope.protect('visitor', '[\"email\"]', online => true)"
UNPROTECT = "CALL envelope.unprotect('visitor', online => true)"
VALUES = "SELECT id, email FROM visitor ORDER BY id"
FEEDBACK = "SELECT count(*) > 0 FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"


@pytest.mark.parametrize("act", ["protect", "unprotect"])
def test_an_old_transaction_of_a_standby_is_waited_for(
    db: Database, stack: Stack, make_standby: MakeStandby, act: str
) -> None:
    db.sql("CREATE TABLE visitor (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO visitor SELECT i, 'v' || i FROM generate_series(1, 50) i")
    before, call = ("SELECT 1", PROTECT) if act == "protect" else (PROTECT, UNPROTECT)
    db.sql(before)
    rows = db.sql(VALUES)
    standby = make_standby(stack.broker)
    with standby.connect("postgres") as settings:
        settings.execute("ALTER SYSTEM SET hot_standby_feedback = on")
        settings.execute("ALTER SYSTEM SET wal_receiver_status_interval = '1s'")
        settings.execute("ALTER SYSTEM SET max_standby_streaming_delay = -1")
        settings.execute("SELECT pg_reload_conf()")
    wait_until(lambda: db.one(FEEDBACK), WAIT, "the standby's feedback")
    with standby.connect(db.name) as old, db.connect() as caller:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM pg_catalog.pg_am")
        wait_until(lambda: db.one(FEEDBACK), WAIT, "the feedback of the transaction")
        caller.execute("SET lock_timeout = '3s'")
        with pytest.raises(psycopg.Error) as refused:
            caller.execute(call)
        assert refused.value.sqlstate == "55006"
        assert "standby" in (refused.value.diag.message_detail or "")
        assert old.execute(VALUES).fetchall() == rows
        old.execute("ROLLBACK")
        caller.execute("RESET lock_timeout")
        caller.execute(call)
    assert db.sql(VALUES) == rows
