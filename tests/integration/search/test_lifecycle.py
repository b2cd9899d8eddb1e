"""Search keys and tokens through what happens to keys: erasure, schedules, rotation."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.erasure.test_replay import REPLAY, Dump


def test_shred_clears_the_subject_s_tokens(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, person int NOT NULL, a text)")
    db.sql("INSERT INTO t SELECT i, i % 3, 'value' || i FROM generate_series(1, 30) i")
    db.sql(
        """CALL envelope.protect('t', '{"a": {"search": "exact"}}', scope => 'subject', scope_column => 'person',"""
        " erased => 'null')"
    )
    assert db.sql("SELECT id FROM t WHERE a_search = 'value7'") == [(7,)]
    db.sql("CALL envelope.shred('t', '1', 'ticket 1')")
    assert db.sql("SELECT id FROM t WHERE a_search = 'value7'") == []
    assert db.one("SELECT count(*) FROM t_encrypted WHERE a_search IS NOT NULL") == 20
    assert db.sql("SELECT id FROM t WHERE a_search = 'value8'") == [(8,)]


def test_erasures_that_are_replayed_over_a_backup_clear_its_tokens(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, person int NOT NULL, a text)")
    db.sql("INSERT INTO t SELECT i, i % 3, 'value' || i FROM generate_series(1, 30) i")
    db.sql(
        """CALL envelope.protect('t', '{"a": {"search": "exact"}}', scope => 'subject', scope_column => 'person',"""
        " erased => 'null')"
    )
    db.sql("CREATE TABLE backup AS SELECT * FROM t_encrypted")
    dump = Dump(db)
    db.sql("CALL envelope.shred('t', '1', 'ticket 1')")
    dump.restore()
    db.sql("SET session_replication_role = replica")
    db.sql("UPDATE t_encrypted t SET a = b.a, a_search = b.a_search FROM backup b WHERE b.id = t.id")
    db.sql("RESET session_replication_role")
    assert db.one("SELECT count(*) FROM t_encrypted WHERE a_search IS NOT NULL") == 30
    assert db.sql(REPLAY) == [(1, 1, 0)]
    assert db.one("SELECT count(*) FROM t_encrypted WHERE a_search IS NOT NULL") == 20
    assert db.sql("SELECT id FROM t WHERE a_search = 'value7'") == []
    assert db.sql("SELECT id FROM t WHERE a_search = 'value8'") == [(8,)]


def test_shred_of_a_table_clears_all_tokens(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE); INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    db.sql("""CALL envelope.protect('t', '["a"]', store => 'catalog')""")
    db.sql("CALL envelope.shred('t', NULL, 'ticket 2')")
    assert db.one("SELECT count(*) FROM t_encrypted WHERE a_search IS NOT NULL") == 0


def test_a_row_in_use_stops_shred_before_anything_is_destroyed(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE); INSERT INTO t VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('t', '["a"]')""")
    with db.connect() as other:
        other.execute("BEGIN; UPDATE t SET a = 'y'")
        db.sql("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            db.sql("CALL envelope.shred('t', NULL, 'ticket 3')")
        db.sql("RESET lock_timeout")
        other.execute("ROLLBACK")
    assert db.sql("SELECT a FROM t") == [("x",)]


def test_a_warm_session_forgets_a_search_key_that_was_taken_away(db: Database) -> None:
    """Also what it had remembered of needles."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE); INSERT INTO t VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('t', '["a"]')""")
    queries = ("SELECT id FROM t WHERE a_search = 'x'", "SELECT id FROM t WHERE a_search = ANY ('{x}'::text[])")
    warm = db.connect()
    for query in queries:
        assert warm.execute(query).fetchall() == [(1,)]
    db.sql(
        "UPDATE envelope_private.dek SET suspended_from = state, state = 'suspended' WHERE key_uuid IN"
        " (SELECT key_uuid FROM envelope_private.field WHERE bind = 'search')"
    )
    db.sql("SELECT envelope.flush('test')")
    warm.execute("SET enable_seqscan = off")
    for query in queries:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="suspended"):
            warm.execute(query)


def test_no_schedule_and_no_rotation_makes_other_tokens(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE); INSERT INTO t VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('t', '["a"]')""")
    name = db.one("SELECT search_key FROM envelope.searches")
    assert db.sql("SELECT label FROM envelope_private.rotation WHERE level <> 'kek' AND label = %s", name) == []
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="is a search key"):
        db.sql("SELECT envelope.rotate_key(%s)", name)
    db.sql("SELECT envelope.rotate('t')")
    db.sql("INSERT INTO t VALUES (2, 'z')")
    assert db.sql("SELECT id FROM t WHERE a_search = ANY ('{x,z}') ORDER BY id") == [(1,), (2,)]
