"""The receipt of a re-encryption: what it says, when there is none, and that older transactions are waited for."""

from __future__ import annotations

import base64
import json

import psycopg
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

from .fix_deks import notices
from .fix_jobs import OLD, ROWS, Beside, assert_whole

REENCRYPT = "CALL envelope.reencrypt('person')"
RECEIPTS = "SELECT count(*) FROM envelope.receipts"


def test_a_receipt_says_what_was_counted_and_its_signature_holds(crowd: Database) -> None:
    crowd.sql(REENCRYPT)
    ((text, signature, public, rows),) = crowd.sql(
        "SELECT statement, signature, public_key, rows FROM envelope.receipts"
    )
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    key.verify(base64.b64decode(signature), text.encode())
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(signature), text.replace("3000", "3001").encode())
    statement = json.loads(text)["statement"]
    ((field, key_id),) = crowd.sql("SELECT field_uuid::text, key_id FROM envelope.columns")
    assert statement["what"] == "reencrypt"
    assert statement["relation"] == "public.person"
    assert statement["rows"] == rows == ROWS
    assert statement["fields"] == [
        {
            "column": "email",
            "field": field,
            "zero_below": 2,
            "left": {},
            "keys": [{"key_id": key_id, "version": 2, "state": "active", "values": ROWS}],
        }
    ]
    assert crowd.one("SELECT %s::pg_lsn <= pg_current_wal_insert_lsn()", statement["lsn"])


def test_there_is_no_receipt_while_a_value_is_old(crowd: Database) -> None:
    sqlstate, text, hint = failure(crowd.admin, "SELECT envelope.receipt('person')")
    assert (sqlstate, text) == ("55000", 'pg_envelope: "public"."person" has values under an old key version')
    assert "reencrypt" in hint
    assert crowd.one(RECEIPTS) == 0
    crowd.sql(REENCRYPT)
    crowd.sql("INSERT INTO person VALUES (0, NULL)")
    assert f'"rows": {ROWS + 1}' in crowd.one("SELECT envelope.receipt('person')").replace('":', '": ').replace(
        "  ", " "
    )
    assert crowd.one(RECEIPTS) == 2


def test_without_a_broker_all_is_committed_and_the_receipt_comes_later(crowd: Database, breakable: Stack) -> None:
    crowd.sql("SELECT count(email) FROM person")
    crowd.sql("INSERT INTO person VALUES (0, 'keeps the new key in this session')")
    crowd.sql("DELETE FROM person WHERE id = 0")
    breakable.broker.stop()
    sqlstate, text, hint = failure(crowd.admin, REENCRYPT)
    assert sqlstate == "58000"
    assert "the receipt could not be signed" in text
    assert "SELECT envelope.receipt(" in hint
    assert crowd.one(OLD) == 0
    assert crowd.one("SELECT state FROM envelope.progress") == "done"
    assert crowd.one(RECEIPTS) == 0
    breakable.broker.start()
    crowd.sql("SELECT envelope.receipt('person')")
    assert crowd.one(RECEIPTS) == 1
    assert_whole(crowd)


def test_what_an_older_transaction_wrote_is_waited_for(crowd: Database) -> None:
    """Nobody can see its row, which is under the old key, until it commits."""
    crowd.sql(REENCRYPT)
    with crowd.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO person VALUES (0, 'under the old key')")
        crowd.sql("SELECT envelope.rotate('person')")
        job = Beside(crowd, REENCRYPT)
        waiting = f"reencrypt: waiting for transactions that began before the newest key: pid {writer.info.backend_pid}"
        wait_until(lambda: waiting in job.notices, 60, "the wait")
        assert crowd.one("SELECT state FROM envelope.progress") == "running"
        assert crowd.one(OLD) == 0
        writer.commit()
    assert job.end() is None
    assert crowd.one(OLD) == 0
    assert crowd.one("SELECT email FROM person WHERE id = 0") == "under the old key"


def test_an_older_snapshot_that_may_still_write_is_waited_for_until_a_limit(crowd: Database) -> None:
    with crowd.connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM person")
        crowd.sql("SELECT envelope.rotate('person')")
        crowd.sql("SET lock_timeout = '300ms'")
        sqlstate, text, hint = failure(crowd.admin, REENCRYPT)
        assert sqlstate == "55006"
        assert "transactions that began before the newest key" in text
        assert "lock_timeout" in hint
        assert crowd.sql("SELECT state, count(*) FROM envelope.progress GROUP BY 1") == [("failed", 1)]
        assert crowd.one(RECEIPTS) == 0
    crowd.sql(REENCRYPT)
    assert crowd.one(RECEIPTS) == 1


def test_younger_and_foreign_transactions_are_not_waited_for(crowd: Database) -> None:
    with crowd.connect(autocommit=False) as younger, crowd.stack.connect("postgres", autocommit=False) as foreign:
        foreign.execute("CREATE TEMP TABLE holds_an_id (i int)")
        crowd.sql("SELECT envelope.rotate('person')")
        younger.execute("SELECT count(*) FROM person")
        crowd.sql("SET lock_timeout = '60s'")
        told = notices(crowd.admin)
        foreign.rollback()
        crowd.sql(REENCRYPT)
        assert not [notice for notice in told if "waiting" in notice]


def test_an_owner_who_puts_a_view_in_the_tables_place_gets_no_receipt(db: Database, owner: psycopg.Connection) -> None:
    owner.execute("CREATE TABLE person (id int PRIMARY KEY, email text); INSERT INTO person VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    owner.execute("ALTER TABLE person_encrypted RENAME TO real")
    owner.execute("CREATE VIEW person_encrypted AS SELECT * FROM real WHERE false")
    db.sql("SELECT envelope.receipt('person')")
    assert '"rows": 1' in db.one("SELECT statement FROM envelope.receipts").replace('":', '": ').replace("  ", " ")
    assert db.one("SELECT relkind FROM pg_class WHERE relname = 'person_encrypted'") == "v"


def test_receipts_are_dumped_and_jobs_are_not(crowd: Database) -> None:
    dumped = crowd.sql("SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'pg_envelope'")
    assert ("envelope_private.receipt",) in dumped
    assert not {("envelope_private.job",), ("envelope_private.job_order",)} & set(dumped)
