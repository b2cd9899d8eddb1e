"""Two sessions convert a table, one is killed; a database that is dumped amid an adoption goes on elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stack.postgres import Cluster
from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import ADOPT, CONVERT, FINISH, make_patients
from tests.integration.operations.fix_clusters import run
from tests.integration.rotation.fix_jobs import Beside, until

ROWS = 3000
HALF = "SELECT count(ssn) > 0 AND count(ssn_legacy) > 0 FROM patient_encrypted"
PART = "CALL envelope.convert('patient', part => {}, parts => 2, batch_size => 50, pause_ms => {})"
RIGHT = "SELECT count(*) FILTER (WHERE ssn = 'ssn ' || id) FROM patient"
SOME_DONE = "SELECT count(*) = 2 FROM envelope.progress WHERE what = 'adopt' AND rows > 100"


def test_one_of_two_sessions_is_killed(db: Database) -> None:
    make_patients(db, ROWS, more=" UNIQUE")
    db.sql("ANALYZE patient")
    db.sql(ADOPT)
    killed, other = Beside(db, PART.format(1, 60)), Beside(db, PART.format(2, 20))
    until(db, SOME_DONE, "some batches of both parts")
    db.sql("SELECT pg_terminate_backend(%s)", killed.pid)
    assert killed.end() is not None
    assert other.end() is None
    assert db.one('SELECT "left" > 0 FROM envelope.adoption')
    assert db.one(RIGHT) == ROWS
    db.sql(PART.format(1, 0))
    assert db.one('SELECT "left" FROM envelope.adoption') == 0
    db.sql(FINISH)
    assert db.one(RIGHT) == ROWS
    assert db.one("SELECT id FROM patient WHERE ssn_search = 'ssn 7'") == 7


def test_a_restored_adoption_goes_on(
    db: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    make_patients(db, 200, more=" UNIQUE")
    db.sql("ANALYZE patient")
    db.sql(ADOPT)
    db.sql("DELETE FROM patient WHERE id <= 100")
    db.sql("INSERT INTO patient (id, ssn) SELECT i, 'ssn ' || i FROM generate_series(1, 100) i")
    assert db.one(HALF)
    run(db.stack.cluster, db.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database("adoption")
    run(other_cluster, name, "pg_restore", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as restored:
        restored.execute("SELECT envelope.this_is_the_original()")
        assert restored.execute(HALF).fetchall() == [(True,)]
        for statement in ("SELECT", CONVERT, FINISH):
            restored.execute(statement)
            assert restored.execute(RIGHT).fetchall() == [(200,)]
            found = restored.execute("SELECT id FROM patient WHERE ssn_search = 'ssn 150'").fetchall()
            assert found == [(150,)]
