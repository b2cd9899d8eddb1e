"""Indexes of a protected column: tokens stand in for some, the rest is refused or dropped, and all come back."""

from __future__ import annotations

import re

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database
from tests.integration.search.fix_users import plan

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, tenant int, email text, "Full Name" varchar(40), born date, code char(9))"""
ROWS = """
INSERT INTO t SELECT i, i % 3, 'User' || i || '@example.org', 'Name ' || i, date '2000-01-01' + i, 'c' || i
FROM generate_series(1, 60) i"""
CARRIED = (
    "CREATE UNIQUE INDEX i1 ON t (lower(email))",
    'CREATE INDEX i2 ON t (tenant, lower("Full Name") DESC)',
    "CREATE UNIQUE INDEX i3 ON t (email, tenant)",
    "CREATE INDEX i4 ON t (lower(code::text), born)",
    "CREATE INDEX i5 ON t (born DESC NULLS LAST) INCLUDE (tenant)",
    'ALTER TABLE t ADD CONSTRAINT i6 UNIQUE ("Full Name")',
)
DROPPED = (
    "CREATE INDEX i11 ON t (upper(email))",
    "CREATE UNIQUE INDEX i12 ON t ((email || code)) WHERE tenant > 0",
    "CREATE INDEX i13 ON t (tenant) WHERE email IS NOT NULL",
    "CREATE INDEX i14 ON t USING hash (email)",
    "CREATE INDEX i15 ON t (email text_pattern_ops)",
    'CREATE INDEX i16 ON t ("Full Name" COLLATE "C" DESC, lower(email))',
    "ALTER TABLE t ADD CONSTRAINT i17 UNIQUE (email) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE t ADD CONSTRAINT i18 EXCLUDE USING hash (code WITH =) WHERE (tenant > 1)",
    "CREATE INDEX i19 ON t USING gin (to_tsvector('english', email)) WITH (fastupdate = off)",
    "CREATE UNIQUE INDEX i20 ON t (tenant, born) INCLUDE (email)",
)
SHAPE = """
SELECT c.relname, pg_get_indexdef(i.indexrelid), pg_get_constraintdef(k.oid) FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid
WHERE i.indrelid = 't'::regclass ORDER BY 1"""
DROP = (
    """CALL envelope.protect('t', '{"email": {"index": "drop"}, "Full Name": {"index": "drop"},"""
    """ "born": {"index": "drop"}, "code": {"index": "drop"}}')"""
)


# An example takes long, so each has several indexes.
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.sets(st.sampled_from((*CARRIED, *DROPPED)), min_size=4))
def test_all_indexes_come_back_as_they_were(db: Database, made: set[str]) -> None:
    db.sql("DROP TABLE IF EXISTS t, t_encrypted CASCADE")
    db.sql(TABLE)
    db.sql(ROWS)
    for statement in sorted(made):
        db.sql(statement)
    before = db.sql(SHAPE)
    db.sql(DROP)
    kept = {
        name
        for (name,) in db.sql(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = 't_encrypted'::regclass"
        )
    }
    assert {name for name, *_ in before if len(name) == 2} <= kept, "tokens stand in for these"
    assert not {name for name, *_ in before if len(name) == 3} & kept, "and not for these"
    db.sql("CALL envelope.unprotect('t')")
    assert db.sql(SHAPE) == before
    db.sql("DROP TABLE t")


@pytest.mark.parametrize("statement", DROPPED)
def test_what_tokens_cannot_stand_in_for_is_refused_by_default(shared_db: Database, statement: str) -> None:
    shared_db.sql(f"DROP TABLE IF EXISTS t; {TABLE}")
    shared_db.sql(statement)
    before = shared_db.sql(SHAPE)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        shared_db.sql("""CALL envelope.protect('t', '["email", "Full Name", "born", "code"]')""")
    assert re.findall(r"\bi\d+\b", statement)[0] in str(refused.value.diag.message_detail)
    assert '"index": "drop"' in str(refused.value.diag.message_hint)
    assert shared_db.sql(SHAPE) == before


def test_a_unique_index_of_lower_is_one_of_tokens(db: Database) -> None:
    db.sql(TABLE)
    db.sql(ROWS)
    db.sql("CREATE UNIQUE INDEX i1 ON t (lower(email))")
    db.sql("""CALL envelope.protect('t', '["email"]'); ANALYZE t_encrypted""")
    query = "SELECT id FROM t WHERE email_search = 'USER7@example.org'"
    assert db.sql(query) == [(7,)]
    db.sql("SET enable_seqscan = off")
    assert "i1" in plan(db.admin, query)
    with pytest.raises(psycopg.errors.UniqueViolation, match="i1"):
        db.sql("INSERT INTO t VALUES (100, 1, 'uSER7@EXAMPLE.org')")


def test_both_kinds_of_index_have_a_search_column_each(db: Database) -> None:
    db.sql(TABLE)
    db.sql(ROWS)
    db.sql("CREATE INDEX i1 ON t (lower(email)); CREATE INDEX i2 ON t (email)")
    db.sql("""CALL envelope.protect('t', '["email"]')""")
    assert db.sql("SELECT search_column, normalizer FROM envelope.searches ORDER BY 1") == [
        ("email_casefold", "casefold/1"),
        ("email_search", "exact/1"),
    ]
    assert db.sql("SELECT id FROM t WHERE email_search = 'user7@example.org'") == []
    assert db.sql("SELECT id FROM t WHERE email_casefold = 'user7@example.org'") == [(7,)]


def test_a_search_that_was_asked_for_decides_which_indexes_it_serves(db: Database) -> None:
    db.sql(TABLE)
    db.sql("CREATE INDEX i1 ON t (lower(email))")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("""CALL envelope.protect('t', '{"email": {"search": "exact"}}')""")
    assert "i1" in str(refused.value.diag.message_detail)
    db.sql("""CALL envelope.protect('t', '{"email": {"search": {"exact": {"normalize": "email"}}}}')""")
    assert db.one("SELECT pg_get_indexdef('i1'::regclass)").count("email_search") == 1


def test_values_that_casefold_makes_equal_stop_protect_and_lose_nothing(db: Database) -> None:
    db.sql(TABLE)
    db.sql("CREATE UNIQUE INDEX i1 ON t (lower(email)); INSERT INTO t VALUES (1, 1, 'stra\u00dfe'), (2, 1, 'strasse')")
    before = db.sql(SHAPE)
    with pytest.raises(psycopg.errors.UniqueViolation, match="equal after normalising") as refused:
        db.sql("""CALL envelope.protect('t', '["email"]')""")
    assert "stra" not in f"{refused.value} {refused.value.diag.message_detail}"
    assert db.sql(SHAPE) == before
    assert db.one("SELECT count(*) FROM envelope.columns") == 0


def test_an_index_that_does_not_fit_any_more_does_not_stop_unprotect(db: Database) -> None:
    db.sql(TABLE)
    db.sql("CREATE INDEX i11 ON t (upper(email))")
    db.sql("""CALL envelope.protect('t', '{"email": {"index": "drop"}}')""")
    db.sql("ALTER VIEW t RENAME COLUMN email TO mail")
    notices: list[str] = []
    db.admin.add_notice_handler(lambda told: notices.append(f"{told.message_primary} {told.message_hint}"))
    db.sql("CALL envelope.unprotect('t')")
    assert any("i11 could not be put back" in notice and "upper(email)" in notice for notice in notices)
    assert db.one("SELECT count(mail) FROM t") == 0


@pytest.mark.parametrize("relation", ["t", "t_encrypted"])
def test_renamed_columns_have_their_indexes_back(db: Database, relation: str) -> None:
    """Names, conditions and INCLUDE are the new ones, also where two columns exchange their names."""
    db.sql(TABLE)
    db.sql(ROWS)
    db.sql("CREATE UNIQUE INDEX i12 ON t (email, tenant DESC) INCLUDE (id) WHERE tenant > 0 AND id <> 7")
    db.sql('ALTER TABLE t ADD CONSTRAINT i13 UNIQUE (email, "Full Name")')
    renames = ("email TO mail", "tenant TO email", '"Full Name" TO tenant')
    db.sql("BEGIN")
    for rename in renames:
        db.sql(f"ALTER TABLE t RENAME COLUMN {rename}")
    wanted = db.sql(SHAPE)
    db.sql("ROLLBACK")
    db.sql("""CALL envelope.protect('t', '["email", "Full Name"]')""")
    for rename in renames:
        db.sql(f"ALTER TABLE {relation} RENAME COLUMN {rename}; CALL envelope.refresh('t')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql("INSERT INTO t (id, email, mail) SELECT 100, email, mail FROM t WHERE id = 1")
    db.sql("CALL envelope.unprotect('t')")
    assert db.sql(SHAPE) == wanted


def test_what_replication_finds_rows_by_is_not_dropped(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, email text NOT NULL)")
    db.sql("CREATE UNIQUE INDEX i11 ON t (email text_pattern_ops)")
    db.sql("ALTER TABLE t REPLICA IDENTITY USING INDEX i11")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("""CALL envelope.protect('t', '{"email": {"index": "drop"}}')""")
    assert "i11" in str(refused.value.diag.message_detail)


@pytest.mark.parametrize("given", ['"keep"', "true", "null"])
def test_the_option_has_one_word(shared_db: Database, given: str) -> None:
    shared_db.sql(f"DROP TABLE IF EXISTS t; {TABLE}")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="index can only be told to drop"):
        shared_db.sql(f"""CALL envelope.protect('t', '{{"email": {{"index": {given}}}}}')""")
