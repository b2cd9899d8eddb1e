"""Embeddings in protected columns: bytes of Vector, real[] and pgvector's own type, by the server and by the client."""

from __future__ import annotations

import struct

import psycopg
import pytest

from pg_envelope import errors
from pg_envelope_client import Vector
from tests.fix_stack import Database
from tests.integration.sealing.fix_door import DoorOfTests

# The largest and the smallest number of float32, one below its normal ones, and one that text must not round.
NUMBERS = [0.1, -0.0, 1.0, -2.5, *struct.unpack("<3f", bytes.fromhex("ffff7f7f0100000001004000"))]


def test_a_vector_goes_both_ways_through_a_column_of_bytea(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v bytea)")
    db.sql("CALL envelope.protect('t', '[\"v\"]')")
    key = door.grant("t", "v").field("t", "v")
    vector = Vector(NUMBERS)
    db.sql("INSERT INTO t_encrypted (id, v) VALUES (1, %s)", key.seal(bytes(vector), 1))
    db.sql("INSERT INTO t VALUES (2, %s)", bytes(vector))
    db.sql("INSERT INTO t VALUES (3, %s)", bytes(Vector([])))
    for number, sealed, read in db.sql("SELECT e.id, e.v::bytea, t.v FROM t_encrypted e JOIN t USING (id)"):
        expected = Vector([]) if number == 3 else vector
        assert bytes(vector)[:16] not in sealed
        assert Vector.read(key.open(sealed, number)) == Vector.read(read) == expected
    # Ten numbers moved to another row are no vector there.
    with pytest.raises(errors.InvalidEnvelope):
        key.open(db.one("SELECT v::bytea FROM t_encrypted WHERE id = 2"), 1)
    assert db.sql("SELECT * FROM envelope.faults") == []


def test_real_arrays_go_both_ways(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v real[])")
    db.sql("CALL envelope.protect('t', '[\"v\"]')")
    key = door.grant("t", "v").field("t", "v")
    text = Vector(NUMBERS).text().translate(str.maketrans("[]", "{}"))
    db.sql("INSERT INTO t_encrypted (id, v) VALUES (1, %s)", key.seal(text, 1))
    db.sql("INSERT INTO t VALUES (2, %s::real[])", NUMBERS)
    for number, sealed, read in db.sql("SELECT e.id, e.v::bytea, t.v FROM t_encrypted e JOIN t USING (id)"):
        assert Vector(read) == Vector(NUMBERS)
        opened = str(key.open(sealed, number))
        assert Vector(map(float, opened[1:-1].split(","))) == Vector(NUMBERS)


@pytest.fixture
def with_vectors(door: DoorOfTests) -> DoorOfTests:
    """A database with pgvector: Debian's package postgresql-17-pgvector, for example."""
    if not door.db.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("the extension vector is not installed")
    door.db.sql("CREATE EXTENSION vector")
    return door


def test_pgvector_s_type_goes_both_ways(with_vectors: DoorOfTests) -> None:
    db = with_vectors.db
    for table in ("plain", "t"):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, v vector({len(NUMBERS)}), free vector)")
    db.sql("CALL envelope.protect('t', '[\"v\", \"free\"]')")
    client = with_vectors.grant("t", "v", "free")
    text = Vector(NUMBERS).text()
    db.sql("INSERT INTO plain SELECT n, %s, '[1,2]' FROM generate_series(1, 2) n", text)
    db.sql("INSERT INTO t SELECT * FROM plain WHERE id = 1")
    sealed = [client.field("t", name).seal(value, 2) for name, value in (("v", text), ("free", "[1,2]"))]
    db.sql("INSERT INTO t_encrypted (id, v, free) VALUES (2, %s, %s)", *sealed)
    same = "t.v = plain.v AND vector_send(t.v) = vector_send(plain.v) AND t.free = plain.free"
    assert db.sql(f"SELECT {same} FROM t JOIN plain USING (id)") == [(True,), (True,)]
    own = db.one("SELECT v::bytea FROM t_encrypted WHERE id = 1")
    assert client.field("t", "v").open(own, 1) == db.one("SELECT v::text FROM plain WHERE id = 1")
    # Distances are computed from rows that were found otherwise; the type still checks what it is given.
    assert db.one("SELECT v <-> (SELECT v FROM plain WHERE id = 1) FROM t WHERE id = 2") == 0
    refused_by_the_type(db)


def refused_by_the_type(db: Database) -> None:
    for wrong in ("[1,2]", "[]", "[1,NaN,3,4,5,6,7]", "words"):
        with pytest.raises(psycopg.DataError):
            db.sql("INSERT INTO t (id, v) VALUES (3, %s::text::vector)", wrong)
    assert db.one("SELECT count(*) FROM t") == 2
