"""Databases of other encodings: what works in UTF8 works there, and SQL_ASCII is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from stack.stack import Stack


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


def test_a_database_in_sql_ascii_is_refused_at_once(stack: Stack, make_encoded: Callable[[str], str]) -> None:
    with stack.connect(make_encoded("SQL_ASCII")) as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="SQL_ASCII") as refused:
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
