"""protect(): the main job, on a table with rows."""

from __future__ import annotations

from tests.fix_stack import Database


def test_reads_as_before_and_stores_envelopes(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c'), (2, NULL), (3, '')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    assert db.sql("SELECT * FROM person ORDER BY id") == [(1, "a@b.c"), (2, None), (3, "")]
    stored = [email for (email,) in db.sql("SELECT email FROM person_encrypted ORDER BY id")]
    assert [email and email[:2] for email in stored] == [b"\xe1\x01", None, b"\xe1\x01"]
