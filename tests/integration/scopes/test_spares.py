"""DEKs that wait for their subject: rolled back, left open, prepared, or come back with a backup."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import folder, wait_until
from stack.stack import Stack
from tests.fix_stack import SETTINGS, Database
from tests.integration.rotation.fix_deks import KEK

PROTECT = """
CALL envelope.protect('visit', '["note"]', store => '{}', scope => 'subject', scope_column => 'person')"""
IDS = """
SELECT coalesce(pg_sequence_last_value('envelope_private.dek_id_seq'), 0)
    + coalesce(pg_sequence_last_value('envelope_private.key_id_seq'), 0)"""
INSERT = "INSERT INTO visit SELECT i, i, 'x' FROM generate_series(%s::int, %s::int) i"
READ = "SELECT count(note) FROM visit"
SPARES = "SELECT count(*) FROM envelope_private.spare_dek"


@pytest.fixture
def make_visits(db: Database) -> Callable[[str], Database]:
    """visit (id, person, note), empty, in subject scope."""

    def make(store: str = "catalog") -> Database:
        db.sql("CREATE TABLE visit (id int PRIMARY KEY, person int NOT NULL, note text)")
        db.sql(PROTECT.format(store))
        return db

    return make


@pytest.fixture
def visits(make_visits: Callable[[str], Database]) -> Database:
    return make_visits("catalog")


def events(db: Database, op: str, start: int) -> list[dict[str, Any]]:
    lines = db.stack.broker.audit_log.read_text()[start:].splitlines()
    return [event for line in lines if (event := json.loads(line)).get("op") == op]


def audit_end(db: Database) -> int:
    return db.stack.broker.audit_log.stat().st_size


class TestRolledBack:
    @pytest.mark.parametrize("store", ["catalog", "vault"])
    def test_a_thousand_inserts_burn_what_one_does(self, make_visits: Callable[[str], Database], store: str) -> None:
        db = make_visits(store)
        before, start = db.one(IDS), audit_end(db)
        writer = db.connect(autocommit=False)
        for number in range(1000):
            writer.execute(INSERT, [number, number])
            writer.rollback()
        assert db.one(IDS) - before <= 2 * 4
        assert len(events(db, "generate", start)) == 1
        db.connect().execute(INSERT, [1, 3])
        assert db.connect().execute(READ).fetchall() == [(3,)]

    def test_a_thousand_savepoints_likewise(self, visits: Database) -> None:
        before = visits.one(IDS)
        visits.sql("""
            DO $$ BEGIN
                FOR i IN 1 .. 1000 LOOP
                    BEGIN
                        INSERT INTO visit VALUES (i, i, 'lost');
                        RAISE EXCEPTION 'undo';
                    EXCEPTION WHEN raise_exception THEN
                        NULL;
                    END;
                END LOOP;
                INSERT INTO visit VALUES (1, 1, 'kept');
            END $$""")
        assert visits.one(IDS) - before <= 2 * 4
        assert visits.sql("SELECT note FROM visit") == [("kept",)]

    def test_many_subjects_at_once(self, visits: Database) -> None:
        before = visits.one(IDS)
        writer = visits.connect(autocommit=False)
        for _ in range(6):
            writer.execute(INSERT, [1, 600])
            writer.rollback()
        drawn = visits.one(IDS) - before
        assert drawn <= 2 * 2 * 600, "at most twice what one of them needs"
        writer.execute(INSERT, [1, 600])
        writer.commit()
        assert visits.one(IDS) - before == drawn
        assert visits.connect().execute(READ).fetchall() == [(600,)]

    def test_some_kept_and_some_not(self, visits: Database) -> None:
        writer = visits.connect()
        for number in range(1, 200):
            with writer.transaction(force_rollback=number % 3 == 0):
                writer.execute(INSERT, [number, number])
                with writer.transaction(force_rollback=number % 2 == 0):
                    writer.execute(INSERT, [1000 + number, 1000 + number])
        kept = [number for number in range(1, 200) if number % 3]
        wanted = sorted([*kept, *(1000 + number for number in kept if number % 2)])
        found = visits.connect().execute("SELECT id FROM visit WHERE note = 'x' ORDER BY id").fetchall()
        assert [row for (row,) in found] == wanted
        assert visits.one("SELECT count(DISTINCT dek_id) FROM envelope.keys") == len(wanted)

    def test_what_was_kept_is_not_used_once_spares_were_dropped(self, visits: Database) -> None:
        writer = visits.connect(autocommit=False)
        for _ in range(3):
            start = audit_end(visits)
            writer.execute(INSERT, [1, 1])
            writer.rollback()
            assert len(events(visits, "generate", start)) == 1
            visits.sql("SELECT envelope_private.drop_spares()")

    def test_what_was_kept_under_an_old_kek_version_is_not_used(self, visits: Database) -> None:
        writer = visits.connect(autocommit=False)
        writer.execute(INSERT, [1, 1])
        writer.rollback()
        visits.sql("CALL envelope.rotate_kek('default')")
        writer.execute(INSERT, [1, 1])
        writer.commit()
        newest = visits.stack.openbao.request("GET", KEK)["data"]["latest_version"]
        assert visits.sql("SELECT DISTINCT kek_version FROM envelope.keys") == [(newest,)]

    def test_a_prepared_transaction_keeps_its_own(self, prepared: Database) -> None:
        writer = prepared.connect()
        writer.execute("BEGIN; INSERT INTO visit VALUES (1, 1, 'one'); PREPARE TRANSACTION 'left'")
        writer.execute("SET lock_timeout = '60s'; INSERT INTO visit VALUES (2, 2, 'two')")
        prepared.sql("COMMIT PREPARED 'left'")
        assert prepared.connect().execute("SELECT note FROM visit ORDER BY id").fetchall() == [("one",), ("two",)]


@pytest.fixture
def prepared(stack: Stack, other_cluster: Cluster, empty_database: Callable[[str], str]) -> Iterator[Database]:
    """A database with an empty table in subject scope, where transactions can be prepared."""
    other_cluster.settings["max_prepared_transactions"] = "5"
    other_cluster.restart()
    name = empty_database("prepared")

    class Elsewhere:
        """The other cluster, with the stack's broker and KMS."""

        broker, openbao, connect = stack.broker, stack.openbao, other_cluster.connect

    db = Database(Elsewhere(), name)  # type: ignore[arg-type]
    db.sql("CREATE EXTENSION pg_envelope CASCADE")
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person int NOT NULL, note text)")
    db.sql(PROTECT.format("catalog"))
    yield db
    for (gid,) in db.sql("SELECT gid FROM pg_prepared_xacts"):
        db.sql(f"ROLLBACK PREPARED '{gid}'")
    db.close()


class TestOpenTransactions:
    """rotate_kek() waits for whoever may have made a key, and nobody waits for rotate_kek()."""

    ROTATE = b"CALL envelope.rotate_kek('default')"
    ROTATED = "SELECT count(*) FROM envelope_private.kek_rotation"

    def test_new_subjects_go_on_and_it_ends_with_the_transaction(self, visits: Database) -> None:
        maker, rotating = visits.connect(autocommit=False), visits.connect()
        maker.execute(INSERT, [1, 1])
        rotating.pgconn.send_query(self.ROTATE)
        wait_until(lambda: visits.one(self.ROTATED) == 1, 60, "the KEK's new version")
        for number in range(2, 12):
            writer = visits.connect()
            writer.execute("SET lock_timeout = '60s'")
            writer.execute(INSERT, [number, number])
        maker.commit()
        while (result := rotating.pgconn.get_result()) is not None:
            assert not result.error_message
        newest = visits.stack.openbao.request("GET", KEK)["data"]["latest_version"]
        assert visits.sql("SELECT DISTINCT kek_version FROM envelope.keys") == [(newest,)]
        assert visits.sql("SELECT count(*) FROM envelope_private.spare_dek WHERE kek_version < %s", newest) == [(0,)]
        assert visits.connect().execute(READ).fetchall() == [(11,)]

    def test_an_orphaned_prepared_transaction_is_named_and_stops_nobody(self, prepared: Database) -> None:
        prepared.sql("BEGIN; INSERT INTO visit VALUES (1, 1, 'one'); PREPARE TRANSACTION 'left behind'")
        rotating = prepared.connect()
        rotating.execute("SET lock_timeout = '2s'")
        rotating.pgconn.send_query(self.ROTATE)
        wait_until(lambda: prepared.one(self.ROTATED) == 1, 60, "the KEK's new version")
        writer = prepared.connect()
        writer.execute("SET lock_timeout = '1s'; INSERT INTO visit VALUES (2, 2, 'two')")
        errors = []
        while (result := rotating.pgconn.get_result()) is not None:
            errors.append(result.error_message.decode())
        assert "transactions that may have made keys are still open" in errors[0]
        assert "prepared transaction 'left behind'" in errors[0]
        assert "CALL envelope.rewrap('default')" in errors[0]
        prepared.sql("COMMIT PREPARED 'left behind'")
        prepared.sql("CALL envelope.rewrap('default')")
        newest = prepared.stack.openbao.request("GET", KEK)["data"]["latest_version"]
        assert prepared.sql("SELECT DISTINCT kek_version FROM envelope.keys") == [(newest,)]
        assert prepared.connect().execute("SELECT note FROM visit ORDER BY id").fetchall() == [("one",), ("two",)]

    def test_spares_that_a_rollback_gives_back_are_dropped_as_well(self, visits: Database) -> None:
        visits.sql(INSERT, 1, 1)
        assert visits.one(SPARES) > 0
        taker, rotating = visits.connect(autocommit=False), visits.connect()
        taker.execute(INSERT, [2, 2])
        rotating.pgconn.send_query(self.ROTATE)
        wait_until(lambda: visits.one(SPARES) == 1, 60, "all spares dropped but the one that is being taken")
        taker.rollback()
        while (result := rotating.pgconn.get_result()) is not None:
            assert not result.error_message
        assert visits.one(SPARES) == 0

    def test_the_first_subjects_of_a_database_do_not_wait_for_each_other(self, visits: Database) -> None:
        first, second = visits.connect(autocommit=False), visits.connect()
        first.execute(INSERT, [1, 1])
        second.execute("SET lock_timeout = '60s'")
        second.execute(INSERT, [2, 2])
        first.commit()
        assert visits.connect().execute(READ).fetchall() == [(2,)]


@pytest.fixture
def backup(stack: Stack, visits: Database) -> Iterator[Callable[[], Cluster]]:
    """A base backup, taken now; called, it is restored beside the original."""
    home = folder(stack.home / f"backup_of_{visits.name}", 0o711)
    cluster = Cluster(home, environment=stack.cluster.environment, settings=SETTINGS)
    folder(cluster.socket_directory, 0o700, cluster.account)
    folder(cluster.data, 0o700, cluster.account)
    cluster._hba_file.write_text(stack.cluster._hba_file.read_text())
    visits.sql(INSERT, 1, 1)
    assert visits.one(SPARES) == 3
    stack.cluster.program("pg_basebackup", "--pgdata", cluster.data, "--checkpoint=fast", "--no-sync")

    def restore() -> Cluster:
        cluster.start()
        return cluster

    yield restore
    cluster.stop()


def lose(visits: Database) -> None:
    """Uses all spares that the backup has, and erases who used them."""
    visits.connect().execute(INSERT, [11, 13])
    for person in (11, 12, 13):
        visits.sql(f"CALL envelope.shred('visit', '{person}', 'ticket')")


class TestRestored:
    def test_dead_spares_are_passed_over_and_dropped(self, visits: Database, backup: Callable[[], Cluster]) -> None:
        lose(visits)
        with backup().connect(visits.name) as restored:
            # In the place of its original: what it made itself is used again.
            restored.execute("SELECT envelope.this_is_the_original()")
            restored.execute(
                "UPDATE envelope_private.spare_dek s SET home = i.home FROM envelope_private.installation i"
            )
            restored.execute(INSERT, [21, 25])
            assert restored.execute("SELECT count(note) FROM visit WHERE id > 20").fetchall() == [(5,)]
            dead = restored.execute("SELECT count(*) FROM envelope_private.spare_dek s WHERE s.dek_id < 6").fetchall()
            assert dead == [(0,)]
            with restored.transaction(force_rollback=True):
                restored.execute(INSERT, [31, 31])
            assert restored.execute("SELECT envelope.rotate('visit', '1')").fetchall() == [(2,)]
            restored.execute("INSERT INTO visit VALUES (41, 1, 'under the new version')")
            assert restored.execute("SELECT note FROM visit WHERE id = 41").fetchall() == [("under the new version",)]

    def test_dead_spares_that_a_rollback_brings_back_are_not_taken(
        self, visits: Database, backup: Callable[[], Cluster]
    ) -> None:
        lose(visits)
        with backup().connect(visits.name) as restored:
            restored.execute("SELECT envelope.this_is_the_original()")
            restored.execute(
                "UPDATE envelope_private.spare_dek s SET home = i.home FROM envelope_private.installation i"
            )
            for _ in range(2):
                with restored.transaction(force_rollback=True):
                    restored.execute(INSERT, [21, 22])
            restored.execute(INSERT, [21, 22])
            assert restored.execute("SELECT count(note) FROM visit WHERE id > 20").fetchall() == [(2,)]

    def test_a_copy_uses_none_of_its_originals(self, visits: Database, backup: Callable[[], Cluster]) -> None:
        with backup().connect(visits.name) as restored:
            restored.execute(INSERT, [21, 23])
            visits.sql(INSERT, 31, 33)
            ours = {row for (row,) in visits.sql("SELECT fingerprint FROM envelope_private.dek WHERE scope LIKE '3%'")}
            theirs = restored.execute("SELECT fingerprint FROM envelope_private.dek WHERE scope LIKE '2%'").fetchall()
            assert not ours & {row for (row,) in theirs}
            homes = restored.execute("SELECT DISTINCT home FROM envelope_private.spare_dek").fetchall()
            assert homes != visits.sql("SELECT DISTINCT home FROM envelope_private.spare_dek")
            assert len(homes) == 1

    def test_replay_erasures_empties_the_pool(self, visits: Database) -> None:
        visits.sql(INSERT, 1, 1)
        assert visits.one(SPARES) > 0
        visits.sql("SELECT envelope.replay_erasures()")
        assert visits.one(SPARES) == 0
        visits.connect().execute(INSERT, [2, 2])


class TestKeyIds:
    LIMIT = 2**32 - 1
    STATUS = "SELECT state, detail FROM envelope.status() WHERE check_name = 'key ids'"

    @pytest.mark.parametrize(
        ("used", "state"), [(0.1, "ok"), (0.51, "warning"), (0.91, "failed")], ids=["few", "half", "nearly all"]
    )
    def test_status_warns_long_before_there_are_none(self, visits: Database, used: float, state: str) -> None:
        visits.sql("SELECT setval('envelope_private.key_id_seq', %s)", int(self.LIMIT * used))
        ((found, detail),) = visits.sql(self.STATUS)
        assert found == state
        assert detail.startswith(f"{int(self.LIMIT * used):,} of 4,294,967,295")

    def test_when_there_are_none_it_says_so(self, visits: Database) -> None:
        visits.sql("SELECT setval('envelope_private.key_id_seq', %s)", self.LIMIT)
        with pytest.raises(
            psycopg.errors.ProgramLimitExceeded, match="all key ids of this database are used"
        ) as raised:
            visits.connect().execute(INSERT, [1, 1])
        assert raised.value.diag.message_hint
