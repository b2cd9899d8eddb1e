"""After a restore: what was erased is dead at the broker at once, and in the catalog after replay_erasures()."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

from .conftest import entries_of

REPLAY = "SELECT erased, destroyed_again, told_broker FROM envelope.replay_erasures(destroy_active => true)"
STATUS = "SELECT state, detail FROM envelope.status() WHERE check_name = 'erasures'"
CATALOG = ("installation", "key", "dek", "field", "field_key", "tombstone")


class Dump:
    """The key catalog's rows, as a dump of the whole database has them; put back, it is a restored backup."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._held = {name: db.sql(f"SELECT to_jsonb(t) FROM envelope_private.{name} t") for name in CATALOG}

    def restore(self) -> None:
        for name, rows in self._held.items():
            # As a restore into an empty database does, whose tables have no rows to keep.
            self._db.sql(f"ALTER TABLE envelope_private.{name} DISABLE TRIGGER USER")
            self._db.sql(f"DELETE FROM envelope_private.{name}")
            self._db.sql(f"ALTER TABLE envelope_private.{name} ENABLE TRIGGER USER")
            for (row,) in rows:
                self._db.sql(
                    f"INSERT INTO envelope_private.{name} SELECT * FROM jsonb_populate_record("
                    f"NULL::envelope_private.{name}, %s::jsonb)",
                    json.dumps(row),
                )
        self._db.sql("SELECT setval('envelope_private.dek_id_seq', 1)")


@pytest.fixture
def shop(db: Database) -> Callable[[str], Database]:
    def make(store: str) -> Database:
        db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
        db.sql(f"""CALL envelope.protect('person', '["email"]', store => '{store}')""")
        db.sql("INSERT INTO person VALUES (1, 'a@b.c')")
        return db

    return make


def test_a_restored_backup_stays_dead(shop: Callable[[str], Database]) -> None:
    db = shop("catalog")
    dump = Dump(db)
    db.sql("CALL envelope.shred('person', reason => 'ticket 7')")
    dump.restore()
    assert db.one("SELECT state FROM envelope.keys") == "active"
    assert failure(db.connect(), "SELECT email FROM person")[0] == "55000"
    assert db.sql(STATUS) == [("warning", "1 erased keys in the broker's ledger, 0 carried out in this catalog")]
    assert db.sql(REPLAY) == [(1, 1, 0)]
    assert db.sql("SELECT state, wrapped FROM envelope_private.dek") == [("destroyed", None)]
    assert db.one("SELECT reason FROM envelope_private.tombstone") == "ticket 7"
    assert db.one(STATUS) == "ok"
    assert db.sql(REPLAY) == [(1, 0, 0)]
    assert len(entries_of(db)) == 1


def test_new_keys_get_no_id_that_died(shop: Callable[[str], Database]) -> None:
    db = shop("catalog")
    dump = Dump(db)
    db.sql("SELECT envelope.rotate('person')")
    db.sql("CALL envelope.shred('person', reason => 'test')")
    dead = {dek[0] for entry in entries_of(db) for dek in entry["deks"]}
    dump.restore()
    db.sql("SELECT envelope.rotate('person')")
    db.sql("INSERT INTO person VALUES (2, 'd@e.f')")
    assert db.one("SELECT email FROM person WHERE id = 2") == "d@e.f"
    assert db.one("SELECT dek_id FROM envelope.keys WHERE state = 'active'") not in dead
    db.sql(REPLAY)
    assert db.one("SELECT email FROM person WHERE id = 2") == "d@e.f"
    assert db.one("SELECT last_value FROM envelope_private.dek_id_seq") >= max(dead)


def test_a_key_store_that_was_restored_is_emptied_again(policy: Stack, shop: Callable[[str], Database]) -> None:
    db = shop("vault")
    uuid, dek_id = db.sql("SELECT database_uuid, dek_id FROM envelope_private.installation, envelope_private.dek")[0]
    entry = f"kv/data/pg_envelope/{uuid}/{dek_id}"
    held = policy.openbao.request("GET", entry)["data"]["data"]
    db.sql("CALL envelope.shred('person', reason => 'test')")
    policy.openbao.request("POST", entry, {"data": held, "options": {"cas": 0}})
    assert db.sql(REPLAY) == [(1, 0, 0)]
    with pytest.raises(Exception, match="404"):
        policy.openbao.request("GET", entry)


def test_a_broker_that_lost_its_ledger_learns_it_from_the_catalog(shop: Callable[[str], Database]) -> None:
    db = shop("catalog")
    stolen = db.one("SELECT wrapped FROM envelope_private.dek")
    db.sql("CALL envelope.shred('person', reason => 'ticket 7')")
    broker = db.stack.broker
    broker.stop()
    held = {path: path.read_bytes() for path in broker.erasures.parent.iterdir()}
    try:
        for path in held:
            path.unlink()
        broker.start()
        assert db.sql(STATUS) == [("warning", "0 erased keys in the broker's ledger, 1 carried out in this catalog")]
        assert db.sql(REPLAY) == [(0, 0, 1)]
        (entry,) = entries_of(db)
        assert entry["reason"] == "ticket 7"
        db.sql("UPDATE envelope_private.dek SET state = 'active', wrapped = %s", stolen)
        assert failure(db.connect(), "SELECT email FROM person")[0] == "55000"
    finally:
        broker.stop()
        for path, content in held.items():
            path.write_bytes(content)
        broker.start()


def test_a_database_without_keys_has_nothing_to_replay(db: Database) -> None:
    assert db.sql("SELECT * FROM envelope.replay_erasures()") == []
    assert db.one(STATUS) == "ok"


def test_which_backups_could_revive_what(shop: Callable[[str], Database]) -> None:
    db = shop("catalog")
    now = datetime.now(UTC)
    db.sql("SELECT envelope.register_backup('before the key', %s)", now - timedelta(days=400))
    db.sql("SELECT envelope.register_backup('kept')")
    db.sql("SELECT envelope.register_backup('a week', now(), now() + interval '7 days')")
    db.sql("SELECT envelope.register_backup('over', now(), now() + interval '1 ms')")
    version = db.one("SELECT kek_version FROM envelope_private.dek")
    db.sql("CALL envelope.shred('person', reason => 'test')")
    db.sql("SELECT envelope.register_backup('after')")
    audit = "SELECT backup, erased, kek, kek_version, state FROM envelope.shred_audit()"
    told = ("public.person", "default", version, "can be revived")
    assert db.sql(audit) == [("kept", *told), ("a week", *told)]
    hints = [row[0] for row in db.sql("SELECT hint FROM envelope.shred_audit()")]
    assert all(f"may be set above {version} in the KMS" in hint for hint in hints)
    assert ["or wait until" in hint for hint in hints] == [False, True]
    assert [db.one("SELECT envelope.forget_backup('kept')") for _ in range(2)] == [True, False]
    assert [row[0] for row in db.sql(audit)] == ["a week"]


def test_of_store_vault_no_backup_of_the_database_holds_a_key(policy: Stack, shop: Callable[[str], Database]) -> None:
    db = shop("vault")
    db.sql("SELECT envelope.register_backup('kept')")
    db.sql("CALL envelope.shred('person', reason => 'test')")
    assert db.sql("SELECT backup, state FROM envelope.shred_audit()") == [("kept", "dead everywhere")]
