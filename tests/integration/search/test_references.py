"""Foreign keys between protected columns: tokens hold rows together, errors show none, and plain keys come back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.postgres import Cluster
from tests.fix_stack import Database, Fill
from tests.integration.operations.fix_clusters import run
from tests.integration.sql.test_there_and_back import dump

TABLES = """
CREATE TABLE customer (id int PRIMARY KEY, tenant int NOT NULL, email text UNIQUE, UNIQUE (tenant, email));
CREATE TABLE invoice (id int PRIMARY KEY, tenant int, "Paid by" varchar(80), note text)"""
ROWS = """
INSERT INTO customer SELECT i, i % 2, 'user' || i || '@example.org' FROM generate_series(1, 20) i;
INSERT INTO invoice SELECT i, i % 2, 'user' || i || '@example.org' FROM generate_series(1, 10) i"""
KEY = 'ALTER TABLE invoice ADD CONSTRAINT paid FOREIGN KEY ("Paid by") REFERENCES customer (email)'
PROTECT = """CALL envelope.protect_tables('{"customer": ["email"], "invoice": {"Paid by": {}}}')"""
SHAPE = """
SELECT k.conrelid::regclass::text, k.conname, pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint')
FROM pg_constraint k WHERE k.contype = 'f' AND k.connamespace <> 'envelope_private'::regnamespace ORDER BY 1, 2"""
INDEXES = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ('customer'::regclass, 'invoice'::regclass)
ORDER BY 1"""


def make(db: Database, key: str = KEY, owner: str | None = None) -> None:
    db.sql(TABLES)
    db.sql(ROWS)
    db.sql(key)
    if owner:
        for table in ("customer", "invoice"):
            db.sql(f"ALTER TABLE {table} OWNER TO {owner}")


def fill(db: Database) -> None:
    make(db, KEY + " ON DELETE CASCADE", owner="owner")
    db.sql(PROTECT)


def fill_deferrable(db: Database) -> None:
    make(db, KEY + " DEFERRABLE")
    db.sql(PROTECT)


@pytest.fixture
def joined(filled: Callable[[Fill], Database]) -> Database:
    """Tables of an ordinary role, which has no right to the types of tokens; a copy, as these tests destroy no key."""
    return filled(fill)


@pytest.fixture
def owner(joined: Database) -> psycopg.Connection[Any]:
    """One session for all that it does in a test."""
    return joined.connect("owner")


@pytest.fixture(scope="module")
def plain(shared_db: Database) -> Database:
    """Tables that are not protected, and stay so."""
    make(shared_db)
    return shared_db


def test_rows_hold_together(joined: Database, owner: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        owner.execute("INSERT INTO invoice VALUES (11, 1, 'nobody@example.org')")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        owner.execute("UPDATE invoice SET \"Paid by\" = 'nobody@example.org' WHERE id = 1")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        owner.execute("UPDATE customer SET email = 'other@example.org' WHERE id = 1")
    owner.execute("UPDATE customer SET email = 'other@example.org' WHERE id = 20")
    owner.execute("INSERT INTO invoice VALUES (11, 1, 'other@example.org'), (12, 1, NULL)")
    owner.execute("DELETE FROM customer WHERE id IN (1, 20)")
    assert owner.execute("SELECT id FROM invoice WHERE id IN (1, 2, 11, 12) ORDER BY id").fetchall() == [(2,), (12,)]
    same = 'SELECT count(*) FROM invoice i JOIN customer c ON c.email_search = i."Paid by_search"'
    assert owner.execute(same).fetchone() == (9,)


WRONG = {
    "INSERT INTO invoice VALUES (11, 1, 'nobody@example.org')": "insert or update on table",
    "UPDATE customer SET email = 'other@example.org' WHERE id = 1": "update or delete on table",
    "DELETE FROM customer WHERE id = 2": "update or delete on table",
    "BEGIN; SET CONSTRAINTS paid DEFERRED; DELETE FROM customer WHERE id = 2; COMMIT": "update or delete on table",
}


@pytest.mark.parametrize("statement", WRONG)
def test_errors_show_names_alone(filled: Callable[[Fill], Database], statement: str) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation) as refused:
        filled(fill_deferrable).admin.execute(statement.encode())
    shown = refused.value.diag
    assert (shown.message_primary or "").startswith(WRONG[statement])
    assert shown.constraint_name == "paid"
    assert re.match(r"Key \((email|Paid by)_search_reference\)=\(\) is ", shown.message_detail or "")
    assert not set("\\@") & set(f"{shown.message_detail}{shown.message_primary}")


def test_a_unique_violation_shows_names_alone(joined: Database) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        joined.sql("INSERT INTO customer VALUES (99, 5, 'user2@example.org')")
    assert refused.value.diag.constraint_name == "customer_email_key"
    assert refused.value.diag.message_detail == "Key (email_search)=() already exists."


@pytest.mark.parametrize("order", [("customer", "invoice"), ("invoice", "customer")])
def test_the_plain_key_comes_back(db: Database, order: tuple[str, str]) -> None:
    make(db, KEY + " MATCH FULL ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED", owner="owner")
    db.sql("COMMENT ON CONSTRAINT paid ON invoice IS 'who pays'")
    before = db.sql(SHAPE), db.sql(INDEXES), dump(db)
    db.sql(PROTECT)
    assert db.sql("SELECT obj_description(oid) FROM pg_constraint WHERE conname = 'paid'") == [("who pays",)]
    db.sql(f"CALL envelope.unprotect('{order[0]}')")
    assert db.sql(SHAPE) == [], "it waits"
    db.sql(f"CALL envelope.unprotect('{order[1]}')")
    assert (db.sql(SHAPE), db.sql(INDEXES), dump(db)) == before
    assert db.one("SELECT count(*) FROM envelope_private.carried") == 0


def test_rows_that_violate_it_meanwhile_leave_it_out_with_its_statement(joined: Database) -> None:
    joined.sql("CALL envelope.unprotect('customer')")
    joined.sql("INSERT INTO invoice VALUES (50, 1, 'nobody@example.org')")
    with joined.connect() as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda notice: told.append(f"{notice.message_primary} {notice.message_hint}"))
        connection.execute("CALL envelope.unprotect('invoice')")
    (warning,) = [text for text in told if "could not be put back" in text]
    assert 'ADD CONSTRAINT "paid" FOREIGN KEY ("Paid by") REFERENCES' in warning
    assert "nobody" not in warning


def test_a_table_may_refer_to_itself(db: Database) -> None:
    db.sql("CREATE TABLE staff (id int PRIMARY KEY, email text UNIQUE, boss text REFERENCES staff (email))")
    db.sql("INSERT INTO staff VALUES (1, 'ada', NULL), (2, 'ben', 'ada')")
    before = db.sql(SHAPE)
    assert ("difference", "staff_boss_fkey") in db.sql(
        """SELECT step, object FROM envelope.plan('staff', '["email", "boss"]')"""
    )
    assert db.sql(SHAPE) == before, "a plan leaves all as it is"
    db.sql("""CALL envelope.protect('staff', '["email", "boss"]')""")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        db.sql("INSERT INTO staff VALUES (3, 'cy', 'nobody')")
    db.sql("INSERT INTO staff VALUES (3, 'cy', 'ben')")
    assert db.sql("SELECT s.id FROM staff s JOIN staff b ON b.email_search = s.boss_search ORDER BY 1") == [(2,), (3,)]
    db.sql("CALL envelope.unprotect('staff')")
    assert db.sql(SHAPE) == before


def test_a_key_may_have_open_columns_too(db: Database) -> None:
    make(db, KEY.replace('("Paid by")', '(tenant, "Paid by")').replace("(email)", "(tenant, email)"))
    before = db.sql(SHAPE), db.sql(INDEXES)
    db.sql(PROTECT)
    db.sql("INSERT INTO invoice VALUES (30, 0, 'user2@example.org')")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        db.sql("INSERT INTO invoice VALUES (31, 1, 'user2@example.org')")
    db.sql("BEGIN; CALL envelope.unprotect('customer'); CALL envelope.unprotect('invoice'); COMMIT")
    assert (db.sql(SHAPE), db.sql(INDEXES)) == before


ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")


@settings(max_examples=10, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.sampled_from(ACTIONS), st.sampled_from(ACTIONS), st.sampled_from(["", " DEFERRABLE", " NOT VALID"]))
def test_no_action_writes_a_token(db: Database, on_update: str, on_delete: str, rest: str) -> None:
    db.sql("DROP TABLE IF EXISTS invoice, customer CASCADE")
    make(db, f"{KEY} ON UPDATE {on_update} ON DELETE {on_delete}{rest}")
    before = db.sql(SHAPE)
    if on_update in ACTIONS[:3] or on_delete in ACTIONS[1:3]:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="would write a token") as refused:
            db.sql(PROTECT)
        assert "nothing was changed" in str(refused.value)
    else:
        db.sql(PROTECT)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            db.sql("INSERT INTO invoice VALUES (99, 1, 'nobody@example.org')")
        db.sql("BEGIN; CALL envelope.unprotect('invoice'); CALL envelope.unprotect('customer'); COMMIT")
    assert db.sql(SHAPE) == before


REFUSED = {
    '{"customer": ["email"], "invoice": ["note"]}': "protect the columns of both of its sides",
    '{"invoice": ["Paid by"]}': "protect the columns of both of its sides",
    '{"customer": {"email": {"search": {"exact": {"key": "a"}}}}, "invoice": {"Paid by": {"search": {"exact": '
    '{"key": "b"}}}}}': "need one search key, not a and b",
    '{"customer": ["email"], "invoice": {"Paid by": {"search": {"exact": {"normalize": "trim"}}}}}': "needs the search",
}


@pytest.mark.parametrize("tables", REFUSED)
def test_what_cannot_be_carried_is_refused(plain: Database, tables: str) -> None:
    before = plain.sql(SHAPE)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        plain.sql("CALL envelope.protect_tables(%s)", tables)
    assert REFUSED[tables] in (refused.value.diag.message_detail or "")
    assert plain.sql(SHAPE) == before


BAD = ("[]", "{}", '"customer"', '{"customer": []}', '{"customer": ["email"], "public.customer": ["email"]}', "null")


@pytest.mark.parametrize("tables", BAD)
def test_bad_input_is_refused(plain: Database, tables: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        plain.sql("CALL envelope.protect_tables(%s)", tables)


def test_other_types_schemas_and_owners_are_refused(db: Database) -> None:
    db.sql("CREATE SCHEMA other; CREATE TABLE a (id int PRIMARY KEY, code int UNIQUE)")
    db.sql("CREATE TABLE b (id int PRIMARY KEY, code bigint REFERENCES a (code))")
    db.sql("CREATE TABLE other.c (id int PRIMARY KEY, code int REFERENCES a (code))")
    for child, reason in {"b": "different values for equal", "other.c": "two schemas or owners"}.items():
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=reason):
            db.sql(f"""CALL envelope.protect_tables('{{"a": ["code"], "{child}": ["code"]}}')""")


def test_a_taken_name_is_refused(db: Database) -> None:
    make(db)
    db.sql("ALTER TABLE customer ADD COLUMN email_search_reference int")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="taken: email_search_reference"):
        db.sql(PROTECT)


def test_ddl_of_users(joined: Database, owner: psycopg.Connection[Any]) -> None:
    joined.sql("ALTER TABLE invoice_encrypted ADD COLUMN more int")
    joined.sql('ALTER TABLE invoice_encrypted RENAME COLUMN "Paid by" TO payer')
    for table in ("customer", "invoice"):
        joined.sql(f"CALL envelope.refresh('{table}_encrypted')")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        owner.execute("INSERT INTO invoice (id, payer) VALUES (11, 'nobody@example.org')")
    joined.sql("ALTER TABLE invoice_encrypted DROP CONSTRAINT paid")
    owner.execute("INSERT INTO invoice (id, payer) VALUES (11, 'nobody@example.org')")
    joined.sql("CALL envelope.drop_search('invoice', 'payer')")
    joined.sql("CALL envelope.rotate_search('customer', 'email')")
    joined.sql("BEGIN; CALL envelope.unprotect('customer'); CALL envelope.unprotect('invoice'); COMMIT")
    assert joined.sql(SHAPE) == []
    left = "SELECT count(*) FROM pg_attribute WHERE attrelid IN ('customer'::regclass, 'invoice'::regclass)"
    assert joined.one(f"{left} AND attname LIKE '%reference' AND NOT attisdropped") == 0


def test_scopes_are_refused(db: Database) -> None:
    db.sql("CREATE TABLE staff (id int PRIMARY KEY, email text UNIQUE, boss text REFERENCES staff (email))")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="an erasure clears"):
        db.sql("""CALL envelope.protect('staff', '["email", "boss"]', scope => 'subject', scope_column => 'id')""")


def test_a_new_search_key_keeps_the_foreign_key(joined: Database, owner: psycopg.Connection[Any]) -> None:
    before = joined.sql(SHAPE)
    joined.sql("CALL envelope.rotate_search('customer', 'email')")
    assert joined.sql(SHAPE) == before
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        owner.execute("INSERT INTO invoice VALUES (11, 1, 'nobody@example.org')")
    owner.execute("INSERT INTO invoice VALUES (11, 1, 'user11@example.org')")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="a foreign key compares"):
        joined.sql("CALL envelope.rotate_search('invoice', 'Paid by', normalizer => 'trim')")


@pytest.mark.parametrize("table", ["customer", "invoice"])
def test_its_search_column_stays(joined: Database, table: str) -> None:
    column = "email" if table == "customer" else "Paid by"
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="a foreign key compares"):
        joined.sql(f"CALL envelope.drop_search('{table}', '{column}')")


def test_an_erased_table_has_no_foreign_key(db: Database) -> None:
    make(db)
    db.sql(PROTECT[:-1] + ", store => 'catalog')")
    db.sql("CALL envelope.shred('customer', NULL, 'ticket 1')")
    assert db.sql(SHAPE) == []
    assert db.one("SELECT count(*) FROM invoice") == 10
    db.sql("INSERT INTO invoice VALUES (11, 1, 'nobody@example.org')")


def test_two_columns_of_a_table_share_a_key(db: Database) -> None:
    db.sql(
        "CREATE TABLE t (id int PRIMARY KEY, home text, work text); INSERT INTO t VALUES (1, 'a', 'b'), (2, 'b', 'a')"
    )
    shared = '{"search": {"exact": {"key": "mail"}}}'
    db.sql(f"""CALL envelope.protect('t', '{{"home": {shared}, "work": {shared}}}')""")
    assert db.sql("SELECT a.id, b.id FROM t a JOIN t b ON a.home_search = b.work_search ORDER BY 1") == [(1, 2), (2, 1)]


def test_a_dump_is_restored_with_it(
    joined: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    run(joined.stack.cluster, joined.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database("referring")
    run(other_cluster, name, "pg_restore", "--jobs=2", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as connection:
        connection.execute("SELECT envelope.this_is_the_original()")
        connection.execute("INSERT INTO invoice VALUES (11, 1, 'user11@example.org')")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("INSERT INTO invoice VALUES (12, 1, 'nobody@example.org')")
        connection.execute("CALL envelope.unprotect('customer')")
        connection.execute("CALL envelope.unprotect('invoice')")
        assert connection.execute(SHAPE).fetchall()[0][1] == "paid"


COMPARES = (
    "SELECT count(*) FROM customer WHERE email_search OPERATOR(envelope_compare.=) 'user2@example.org'",
    "SELECT count(*) FROM customer WHERE email_search OPERATOR(envelope_compare.<) '\\x00'",
    "SELECT count(*) FROM customer WHERE email_search OPERATOR(envelope_compare.=) '\\x00'::bytea",
)


@pytest.mark.parametrize("query", COMPARES)
def test_its_operators_take_no_value_of_a_user(joined: Database, owner: psycopg.Connection[Any], query: str) -> None:
    with pytest.raises(psycopg.errors.Error):
        owner.execute(query)
