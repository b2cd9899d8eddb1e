"""Databases of other encodings: what works in UTF8 works there, and SQL_ASCII is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from stack.stack import Stack
from tests.integration.operations.fix_clusters import run


@pytest.fixture
def make_encoded(stack: Stack) -> Iterator[Callable[[str], str]]:
    """Makes databases of an encoding, without the extension; they go with the test."""
    made: list[str] = []

    def make(encoding: str) -> str:
        made.append(f"encoded_{encoding.lower()}")
        with stack.connect("postgres") as connection:
            connection.execute(
                f"CREATE DATABASE {made[-1]} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        return made[-1]

    yield make
    with stack.connect("postgres") as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_JIS_2004", "MULE_INTERNAL"])
def test_a_database_that_counts_other_characters_is_refused_at_once(
    stack: Stack, make_encoded: Callable[[str], str], encoding: str
) -> None:
    with stack.connect(make_encoded(encoding), client_encoding="SQL_ASCII") as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=encoding) as refused:
            connection.execute("CREATE EXTENSION pg_envelope CASCADE")
        assert "after a dump and restore" in str(refused.value.diag.message_detail)
        assert "ENCODING 'UTF8'" in str(refused.value.diag.message_hint)
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname LIKE 'envelope%'").rowcount == 0


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP"])
def test_another_encoding_holds_the_same_text(stack: Stack, make_encoded: Callable[[str], str], encoding: str) -> None:
    word = {"LATIN1": "é", "EUC_JP": "日本"}[encoding]
    with stack.connect(make_encoded(encoding)) as connection:
        connection.execute("CREATE EXTENSION pg_envelope CASCADE")
        connection.execute("CREATE TABLE t (k text PRIMARY KEY, n int, v text)")
        connection.execute("""CALL envelope.protect('t', '["v"]')""")
        connection.execute("INSERT INTO t VALUES (%s, 1, %s)", (word, word))
        assert connection.execute("SELECT k, v FROM t").fetchall() == [(word, word)]


# All that the encoding has, but for NUL.
CHARACTERS = {
    "LATIN1": "".join(map(chr, range(1, 256))),
    "EUC_JP": "日本語カタカナ、ひらがな。一〇 ﾊﾝｶｸ Ω Я α ─ ∞ ℃",
}
TABLES = "CREATE TABLE {} (k text PRIMARY KEY, v text, l text[], j json, c char(400))"


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP"])
def test_a_dump_of_it_is_read_in_utf8(
    stack: Stack,
    make_encoded: Callable[[str], str],
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    tmp_path: Path,
    encoding: str,
) -> None:
    """In protected values, in the key that they are bound to, inside arrays and documents."""
    word, key = CHARACTERS[encoding], CHARACTERS[encoding][-60:]
    source, target = make_encoded(encoding), empty_database(f"from_{encoding.lower()}")
    row = [key, word, [word, key], "[]", word]
    with stack.connect(source) as connection:
        connection.execute("CREATE EXTENSION pg_envelope CASCADE")
        for table in ("plain", "sealed"):
            connection.execute(TABLES.format(table))
        connection.execute("""CALL envelope.protect('sealed', '["v", "l", "j", "c"]')""")
        for table in ("plain", "sealed"):
            connection.execute(f"INSERT INTO {table} VALUES (%s, %s, %s, %s, %s)", row)
        kept = connection.execute("SELECT k, v, l, j::text, c FROM plain").fetchall()
        assert connection.execute("SELECT k, v, l, j::text, c FROM sealed").fetchall() == kept
    run(stack.cluster, source, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    run(other_cluster, target, "pg_restore", "--exit-on-error", "--dbname", target, tmp_path / "dump")
    with other_cluster.connect(target) as connection:
        assert connection.execute("SELECT k, v, l, j::text, c FROM sealed").fetchall() == kept
        connection.execute("UPDATE sealed SET k = k || 'x'")
        assert connection.execute("SELECT v, l FROM sealed").fetchall() == [(word, [word, key])]


def test_what_the_encoding_lacks_stays_out_and_is_found(stack: Stack, make_encoded: Callable[[str], str]) -> None:
    """An envelope from elsewhere whose text this database cannot show."""
    with stack.connect(make_encoded("LATIN1")) as connection:
        connection.execute("CREATE EXTENSION pg_envelope CASCADE")
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two')")
        connection.execute("""CALL envelope.protect('t', '["v"]')""")
        connection.execute("SET client_encoding = 'UTF8'")
        with pytest.raises(psycopg.errors.UntranslatableCharacter):
            connection.execute("UPDATE t SET v = '日本' WHERE id = 1")
        connection.execute(
            "UPDATE t_encrypted SET v = envelope_internal.encrypt_bytea(%s::bytea, c.seal, '1')"
            " FROM envelope_private.capability c WHERE id = 1",
            ["日本".encode()],
        )
        connection.execute("CALL envelope.verify('t')")
        found = connection.execute("SELECT row_key ->> 'id', reason FROM envelope.faults").fetchall()
        assert found == [("1", "not of its type")]
        with pytest.raises(psycopg.errors.DataCorrupted):
            connection.execute("SELECT v FROM t")
        connection.execute("UPDATE t SET v = 'mended' WHERE id = 1")
        assert connection.execute("SELECT v FROM t ORDER BY id").fetchall() == [("mended",), ("two",)]
