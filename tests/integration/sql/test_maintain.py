"""MAINTAIN, since PostgreSQL 17: it stays on the view, gives LOCK TABLE there, and comes back with unprotect()."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database

PRIVILEGE = "SELECT has_table_privilege('alice', %s, 'MAINTAIN')"


def test_it_stays_on_the_view(db: Database) -> None:
    if db.admin.info.server_version < 170000:
        pytest.skip("PostgreSQL 17 is the first that has it")
    db.sql("CREATE TABLE guarded (id int PRIMARY KEY, email text); GRANT MAINTAIN ON guarded TO alice")
    db.sql("""CALL envelope.protect('guarded', '["email"]')""")
    assert [db.one(PRIVILEGE, name) for name in ("guarded", "guarded_encrypted")] == [True, False]
    alice, warned = db.connect("alice"), []
    alice.add_notice_handler(lambda notice: warned.append(notice.message_primary))
    alice.execute("VACUUM guarded_encrypted")
    assert "permission denied" in str(warned)
    with alice.transaction():
        alice.execute("LOCK TABLE guarded IN ACCESS EXCLUSIVE MODE")
    db.sql("CALL envelope.unprotect('guarded')")
    assert db.one(PRIVILEGE, "guarded") is True
