"""A roll-out waits for standbys that are far behind, and tells which."""

from __future__ import annotations

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.rotation.fix_jobs import Beside, until
from tests.integration.standby.conftest import MakeStandby, go_on, hold_up

PROTECT = """CALL envelope.protect('visitor', '["email"]', online => true, batch_size => 50, max_lag_mb => {})"""
UNPROTECT = "CALL envelope.unprotect('visitor', online => true, batch_size => 50, max_lag_mb => {})"
VALUES = "SELECT count(*), md5(string_agg(email, ',' ORDER BY id)) FROM visitor"
HELD_UP = "SELECT count(*) > 0 FROM envelope.progress WHERE held_up_by LIKE 'standbys that are behind: %'"
# Some MB of WAL.
MUCH = "CREATE TABLE much AS SELECT i, repeat('x', 500) AS x FROM generate_series(1, 9000) i"


def test_a_standby_that_is_behind(db: Database, stack: Stack, make_standby: MakeStandby) -> None:
    db.sql("CREATE TABLE visitor (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO visitor SELECT i, 'v' || i FROM generate_series(1, 2000) i")
    rows = db.sql(VALUES)
    standby = make_standby(stack.broker)
    with standby.connect("postgres") as session:
        hold_up(session)
        db.sql(MUCH)
        for call in (PROTECT, UNPROTECT):
            job = Beside(db, call.format(1))
            until(db, HELD_UP, "the wait for the standby")
            assert job.alive
            assert db.sql(VALUES) == rows
            go_on(session)
            assert job.end() is None
            assert any("waits for standbys that are behind" in notice for notice in job.notices)
            assert db.sql(VALUES) == rows
            hold_up(session)
            db.sql(f"DROP TABLE much; {MUCH}")
        db.sql(PROTECT.format(0))
        assert db.sql(VALUES) == rows
        go_on(session)
