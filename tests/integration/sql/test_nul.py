"""A NUL byte cannot be in a text of PostgreSQL: what holds one is an error wherever text is asked for, never cut."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database

contents = st.binary(max_size=40) | st.text(max_size=20).map(str.encode)


def text_of(content: bytes) -> str | None:
    """What PostgreSQL could hold as text."""
    try:
        return None if 0 in content else content.decode()
    except UnicodeDecodeError:
        return None


@pytest.fixture(scope="module")
def keyed(shared_db: Database) -> Database:
    shared_db.sql("SELECT envelope.create_key('nk')")
    shared_db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b varchar, c text, d int[])")
    shared_db.sql("""CALL envelope.protect('t', '{"a": {}, "b": {}, "c": {"pad": true}, "d": {}}')""")
    shared_db.sql("INSERT INTO t VALUES (1, 'a', 'b', 'c', '{1}')")
    return shared_db


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(contents)
@example(b"hi\0!")
@example(b"\0")
@example(b"hi\0")
@example(b"\xff")
@example(b"")
def test_bytes_under_a_named_key_are_read_as_text_only_when_they_are_text(keyed: Database, content: bytes) -> None:
    sealed = keyed.one("SELECT envelope.encrypt(%s::bytea, 'nk', 'c')::bytea", content)
    assert keyed.one("SELECT envelope.decrypt_bytea(%s::envelope.ciphertext, 'c')", sealed) == content
    expected = text_of(content)
    if expected is None:
        with pytest.raises(psycopg.errors.DataCorrupted, match="the envelope cannot be opened"):
            keyed.one("SELECT envelope.decrypt(%s::envelope.ciphertext, 'c')", sealed)
    else:
        assert keyed.one("SELECT envelope.decrypt(%s::envelope.ciphertext, 'c')", sealed) == expected


@pytest.mark.parametrize("content", [b"hi\0!", b"\0", b"{1}\0"])
@pytest.mark.parametrize("column", ["a", "b", "c", "d"])
def test_a_column_of_text_never_reads_part_of_what_its_owner_sealed(
    keyed: Database, column: str, content: bytes
) -> None:
    keyed.sql(
        f"UPDATE t_encrypted t SET {column} = envelope_internal.encrypt_bytea_as_role(%s, c.field_uuid, t.id::text)"
        " FROM envelope.columns c WHERE c.relation = 't'::regclass AND c.column = %s",
        content,
        column,
    )
    for _ in range(2):
        with pytest.raises(psycopg.errors.DataCorrupted, match="the envelope cannot be opened"):
            keyed.sql(f"SELECT {column} FROM t")
    with pytest.raises(psycopg.errors.DataCorrupted, match="the envelope cannot be opened"):
        keyed.sql(
            f"SELECT envelope_internal.decrypt_text_as_role(t.{column}, c.field_uuid, t.id::text)"
            " FROM t_encrypted t, envelope.columns c WHERE c.relation = 't'::regclass AND c.column = %s",
            column,
        )
