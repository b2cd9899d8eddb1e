"""Ways to a value that leave no event: where there is one, the column cannot be audited, and the other way round."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database

GRANT = "SELECT envelope.grant_client('person', '{}', 'bob')"
GRANT_KEY = "SELECT envelope.grant_client_key('cards', 'bob')"
AUDITED = """CALL envelope.protect('other', '{"email": {"audit": "statement"}}', online => true)"""
PLAIN = """CALL envelope.protect('other', '["email"]', online => true)"""


def test_no_client_opens_an_audited_column(audited: Database) -> None:
    for column in ("email", "photo"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="reads are audited"):
            audited.sql(GRANT.format(column))
    assert audited.sql("SELECT role FROM envelope_private.client_grant") == []
    audited.sql("CALL envelope.set_audit('person', 'email', 'none')")
    assert audited.one(GRANT.format("email"))


def test_no_column_of_clients_is_audited(audited: Database) -> None:
    audited.sql(GRANT.format("phone"))
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="clients may open") as caught:
        audited.sql("CALL envelope.set_audit('person', 'phone', 'row')")
    assert caught.value.diag.message_detail == "bob"
    assert audited.one("SELECT audit FROM envelope.columns WHERE \"column\" = 'phone'") == "none"
    audited.sql("SELECT envelope.revoke_client('person', 'phone', 'bob')")
    audited.sql("CALL envelope.set_audit('person', 'phone', 'row')")


def test_named_keys_likewise(db: Database) -> None:
    db.sql("SELECT envelope.create_key('cards')")
    db.sql(GRANT_KEY)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="clients may open"):
        db.sql("CALL envelope.set_audit_key('cards', 'statement')")
    db.sql("SELECT envelope.revoke_client_key('cards', 'bob')")
    db.sql("CALL envelope.set_audit_key('cards', 'statement')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="reads are audited"):
        db.sql(GRANT_KEY)


def test_who_comes_second_of_two_at_once_is_refused(audited: Database) -> None:
    with audited.connect() as granting, granting.transaction(force_rollback=True):
        granting.execute(GRANT.format("phone"))
        waiting = audited.connect()
        waiting.execute("SET lock_timeout = '500ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            waiting.execute("CALL envelope.set_audit('person', 'phone', 'row')")


def test_values_in_the_clear_are_not_audited(db: Database) -> None:
    db.sql("CREATE TABLE other (id int PRIMARY KEY, email text); INSERT INTO other VALUES (1, 'a@b.c')")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot be protected online") as caught:
        db.sql(AUDITED)
    assert "leave no event" in (caught.value.diag.message_detail or "")
    db.sql(PLAIN)
    db.sql("CALL envelope.set_audit('other', 'email', 'statement')")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot be unprotected online"):
        db.sql("CALL envelope.unprotect('other', online => true)")
    db.sql("CALL envelope.set_audit('other', 'email', 'none')")
    db.sql("CALL envelope.unprotect('other', online => true)")
