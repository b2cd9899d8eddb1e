"""A value whose stored bytes are gone, as after a fault of the disk: jobs pass over it, and people can mend it."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database

from .fix_damage import FAULTS, lose_storage, told

DAMAGED = [("3", "storage damaged")]
JOBS = ["CALL envelope.reencrypt('scroll', 3)", "CALL envelope.rotate_emergency('scroll', 'test')"]
VERIFY = "CALL envelope.verify('scroll', 3)"
UNDER = """
SELECT id FROM scroll_encrypted WHERE id <> 3 AND (
    substr(body, 1, 6) NOT IN (SELECT substr(seal, 17) FROM envelope_private.capability)
    OR substr(head, 1, 6) NOT IN (SELECT substr(seal, 17) FROM envelope_private.capability))"""
TRIGGER = """
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE UPDATE ON scroll_encrypted FOR EACH ROW EXECUTE FUNCTION noted()"""


def warnings(db: Database, call: str) -> list[str]:
    return [text for level, text, _ in told(db.connect(), call) if level == "WARNING"]


def with_code(db: Database) -> None:
    """The table's own triggers make it one whose writes run as the caller."""
    db.sql(TRIGGER)
    db.sql("CALL envelope.refresh('scroll')")


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("which", ["true", "c.chunk_seq = 0", "c.chunk_seq > 0"])
@pytest.mark.parametrize("call", JOBS, ids=["reencrypt", "rotate_emergency"])
def test_jobs_pass_over_it(scrolls: Database, call: str, which: str, coded: bool) -> None:
    if coded:
        with_code(scrolls)
    lose_storage(scrolls, 3, which)
    scrolls.sql("SELECT envelope.rotate('scroll')")
    found = warnings(scrolls, call)
    assert len(found) == 1
    assert "that do not open, and stay as they are: 1;" in found[0]
    assert scrolls.sql(FAULTS) == DAMAGED
    assert scrolls.sql(UNDER) == []
    newest = "SELECT substr(head, 1, 6) = (SELECT substr(head, 1, 6) FROM scroll_encrypted WHERE id = 1)"
    assert scrolls.one(f"{newest} FROM scroll_encrypted WHERE id = 3"), "the good column of the row moves on"


def test_verify_lists_it(scrolls: Database) -> None:
    lose_storage(scrolls, 3)
    assert warnings(scrolls, VERIFY) == ['verify: 24 values of "public"."scroll"; storage damaged: 1']
    assert scrolls.sql(FAULTS) == DAMAGED


def test_unprotect_names_it_or_writes_null(scrolls: Database) -> None:
    lose_storage(scrolls, 3)
    with pytest.raises(psycopg.errors.DataCorrupted) as caught:
        scrolls.sql("CALL envelope.unprotect('scroll')")
    assert caught.value.diag.message_detail == "body: 1 storage damaged\n- body of (id)=(3): storage damaged"
    scrolls.sql("CALL envelope.unprotect('scroll', damaged => 'null')")
    assert scrolls.sql("SELECT id, head FROM scroll WHERE body IS NULL") == [(3, "head 3")]
    assert scrolls.one("SELECT count(*) FROM scroll WHERE length(body) > 8000") == 7


@pytest.mark.parametrize("coded", [False, True])
def test_the_column_can_be_written_and_the_row_deleted(scrolls: Database, coded: bool) -> None:
    if coded:
        with_code(scrolls)
    lose_storage(scrolls, 3)
    scrolls.sql(VERIFY)
    scrolls.sql("UPDATE scroll SET body = 'mended' WHERE id = 3")
    assert scrolls.sql("SELECT head, body FROM scroll WHERE id = 3") == [("head 3", "mended")]
    scrolls.sql(VERIFY)
    assert scrolls.sql(FAULTS) == []
    lose_storage(scrolls, 4)
    assert scrolls.sql("DELETE FROM scroll WHERE id = 4 RETURNING id") == [(4,)]


@pytest.mark.parametrize("coded", [False, True])
def test_a_key_below_the_view_changes_beside_it(scrolls: Database, coded: bool) -> None:
    """The guard seals the good values for the new key, and leaves the bad one as it is."""
    if coded:
        with_code(scrolls)
    lose_storage(scrolls, 3)
    scrolls.sql("UPDATE scroll_encrypted SET id = 33 WHERE id = 3")
    scrolls.sql(VERIFY)
    assert scrolls.sql(FAULTS) == [("33", "storage damaged")]
    assert scrolls.sql("SELECT head, n FROM scroll WHERE id = 33") == [("head 3", 3)]
    scrolls.sql("UPDATE scroll_encrypted SET body = NULL WHERE id = 33")
    assert scrolls.one("SELECT body FROM scroll WHERE id = 33") is None


def test_a_table_whose_code_is_gone_is_one_without_code(scrolls: Database) -> None:
    """The CHECK that the package made calls a function, which is none of the table's."""
    mode = "SELECT as_caller FROM envelope_private.key WHERE base = 'scroll_encrypted'::regclass"
    with_code(scrolls)
    assert scrolls.one(mode)
    scrolls.sql("DROP TRIGGER noted ON scroll_encrypted; DROP FUNCTION noted()")
    scrolls.sql("CALL envelope.refresh('scroll')")
    assert not scrolls.one(mode)
