"""An envelope that opens and gives no value of its column's type, as whoever has the key can make one."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database

from .fix_damage import FAULTS, seal_bytes, told

VERIFY = "CALL envelope.verify('scroll')"
SECRET = "no-number-but-secret"
CONTENTS = {
    "text of another encoding": ("head", b"\xff\xfe"),
    "a NUL": ("head", b"a\x00b"),
    "no number": ("n", SECRET.encode()),
    "a number out of range": ("n", b"99999999999"),
    "no bytes at all": ("n", b""),
}


def error_of(db: Database, statement: str) -> tuple[str | None, str]:
    with pytest.raises(psycopg.Error) as caught:
        db.connect().execute(statement)  # type: ignore[call-overload]
    return caught.value.sqlstate, repr([getattr(caught.value.diag, name) for name in ("message_primary", "context")])


@pytest.mark.parametrize("what", CONTENTS)
def test_it_is_found_and_mended(scrolls: Database, what: str) -> None:
    column, content = CONTENTS[what]
    seal_bytes(scrolls, column, content, 5)
    warned = [text for level, text, _ in told(scrolls.connect(), VERIFY) if level == "WARNING"]
    assert warned == ['verify: 24 values of "public"."scroll"; not of its type: 1']
    assert scrolls.sql(FAULTS) == [("5", "not of its type")]
    state, said = error_of(scrolls, f"SELECT {column} FROM scroll")
    assert state == "XX001"
    assert "the envelope cannot be opened" in said
    assert SECRET not in said
    scrolls.sql(f"UPDATE scroll SET {column} = '7' WHERE id = 5")
    assert str(scrolls.one(f"SELECT {column} FROM scroll WHERE id = 5")) == "7"
    assert [level for level, *_ in told(scrolls.connect(), VERIFY)] == ["NOTICE"]
    assert "has_value" not in scrolls.one("SELECT pg_get_viewdef('scroll'::regclass)"), "the view reads fast again"


def test_an_update_that_reads_it_fails(scrolls: Database) -> None:
    seal_bytes(scrolls, "n", SECRET.encode(), 5)
    scrolls.sql(VERIFY)
    assert error_of(scrolls, "UPDATE scroll SET n = n + 1 WHERE id = 5")[0] == "XX001"
    assert error_of(scrolls, "UPDATE scroll SET note = 'x' WHERE id = 5")[0] == "XX001"
    assert scrolls.sql("DELETE FROM scroll WHERE id = 5 RETURNING id") == [(5,)]


def test_under_row_level_security(scrolls: Database) -> None:
    scrolls.sql("ALTER TABLE scroll_encrypted ENABLE ROW LEVEL SECURITY")
    scrolls.sql("CALL envelope.refresh('scroll')")
    seal_bytes(scrolls, "n", SECRET.encode(), 5)
    scrolls.sql(VERIFY)
    assert error_of(scrolls, "SELECT n FROM scroll")[0] == "XX001"
    scrolls.sql("UPDATE scroll SET n = 7 WHERE id = 5")
    assert scrolls.one("SELECT sum(n) FROM scroll") == 1 + 2 + 3 + 4 + 7 + 6 + 7 + 8


def test_reencrypt_moves_it_and_unprotect_writes_null(scrolls: Database) -> None:
    """It opens, so it leaves its old key as any other value does."""
    seal_bytes(scrolls, "n", SECRET.encode(), 5)
    scrolls.sql("SELECT envelope.rotate('scroll')")
    scrolls.sql("CALL envelope.reencrypt('scroll')")
    assert scrolls.sql(FAULTS) == []
    state, said = error_of(scrolls, "CALL envelope.unprotect('scroll')")
    assert state == "XX001"
    assert SECRET not in said
    scrolls.sql("CALL envelope.unprotect('scroll', damaged => 'null')")
    assert scrolls.sql("SELECT id FROM scroll WHERE n IS NULL") == [(5,)]


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(max_size=12) | st.text(max_size=8).map(str.encode) | st.integers().map(lambda n: str(n).encode())
)
def test_verify_says_what_a_read_says(scrolls: Database, content: bytes) -> None:
    """Of any bytes in a number's column: the list is empty if and only if all can be read."""
    seal_bytes(scrolls, "n", content, 5)
    scrolls.sql(VERIFY)
    bad = bool(scrolls.sql(FAULTS))
    try:
        scrolls.sql("SELECT n FROM scroll WHERE id = 5")
        readable = True
    except psycopg.errors.DataCorrupted:
        readable = False
    assert bad != readable
