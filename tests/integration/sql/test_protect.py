"""protect(): the main job, on a table with rows."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database


def test_reads_as_before_and_stores_envelopes(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c'), (2, NULL), (3, '')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    assert db.sql("SELECT * FROM person ORDER BY id") == [(1, "a@b.c"), (2, None), (3, "")]
    stored = [email for (email,) in db.sql("SELECT email FROM person_encrypted ORDER BY id")]
    assert [email and email[:2] for email in stored] == [b"\xe1\x01", None, b"\xe1\x01"]


@pytest.mark.parametrize("way", ["", ", online => true"], ids=["offline", "online"])
def test_backslashes_in_literals_mean_the_same_everywhere(db: Database, way: str) -> None:
    """Whatever the session of the DBA has set, a literal of the package is the same bytes."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text); INSERT INTO person VALUES (1, 'a')")
    db.sql("SET standard_conforming_strings = off")
    db.sql(f"""CALL envelope.protect('person', '["email"]'{way})""")
    db.sql("SELECT envelope.rotate('person')")
    db.sql("CALL envelope.reencrypt('person')")
    db.sql("CALL envelope.retire('person', 1)")
    assert db.one("SELECT email FROM person") == "a"
    db.sql(f"CALL envelope.unprotect('person'{way})")
    assert db.one("SELECT email FROM person") == "a"
