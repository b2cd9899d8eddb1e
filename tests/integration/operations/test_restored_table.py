"""One table, dropped by mistake and restored from a dump at night: taken back under its keys, or its keys erased."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.erasure.conftest import policy

from .fix_clusters import run
from .fix_kms_life import failure
from .test_status import check

__all__ = ["policy"]

PROTECT = """CALL envelope.protect('customer', '["email", "note"]')"""
ADOPT = "CALL envelope.adopt_restored('customer')"
ROWS = [(1, "a@b.c", "one"), (2, "d@e.f", None)]
READ = "SELECT id, email, note FROM customer ORDER BY id"
DROP = "DROP VIEW customer; DROP TABLE customer_encrypted CASCADE"


@pytest.fixture
def shop(db: Database) -> Database:
    """customer (id, email, note) of `owner`. Columns were dropped before, so a restored one has other numbers."""
    db.sql(
        "SET ROLE owner; CREATE TABLE customer (gone int, id int PRIMARY KEY, email text, old int, note text);"
        " ALTER TABLE customer DROP COLUMN gone, DROP COLUMN old;"
        " INSERT INTO customer VALUES (1, 'a@b.c', 'one'), (2, 'd@e.f', NULL);"
        " GRANT SELECT, INSERT ON customer TO alice; RESET ROLE"
    )
    db.sql(PROTECT)
    return db


def dump(stack: Stack, db: Database, file: Path) -> Path:
    """Of the table and its view alone, as a DBA makes it."""
    tables = [word for name in ("customer", "customer_encrypted") for word in ("--table", name)]
    run(stack.cluster, db.name, "pg_dump", "--format=custom", *tables, "--file", file)
    return file


def restore(stack: Stack, db: Database, file: Path, *words: str) -> None:
    run(stack.cluster, db.name, "pg_restore", "--exit-on-error", *words, "--dbname", db.name, file)


@pytest.fixture
def restored(stack: Stack, shop: Database, tmp_path: Path) -> Database:
    """Dumped, changed since, dropped and restored."""
    file = dump(stack, shop, tmp_path / "dump")
    shop.sql("SELECT envelope.rotate('customer')")
    shop.sql("INSERT INTO customer VALUES (3, 'later', 'lost')")
    shop.sql(DROP)
    restore(stack, shop, file)
    return shop


def test_status_tells_of_it_and_what_to_do(restored: Database) -> None:
    assert restored.sql(READ) == ROWS, "it can be read: nobody would notice"
    state, detail, hint = check(restored, "restored")
    assert (state, "customer_encrypted" in detail) == ("failed", True)
    assert hint is not None
    assert "adopt_restored" in hint
    for statement in ("CALL envelope.refresh('customer')", "SELECT envelope.rotate('customer')"):
        sqlstate, _, hint = failure(restored.admin, statement)
        assert (sqlstate, "adopt_restored" in hint) == ("42704", True)


@pytest.mark.usefixtures("policy")
def test_it_is_taken_back(restored: Database) -> None:
    restored.sql(ADOPT)
    assert restored.sql(READ) == ROWS
    assert restored.sql("SELECT check_name FROM envelope.status() WHERE state <> 'ok'") == []
    alice = restored.connect("alice")
    alice.execute("INSERT INTO customer VALUES (4, 'new', 'row')")
    assert restored.one("SELECT envelope.rotate('customer')") == 3
    restored.sql("CALL envelope.reencrypt('customer')")
    assert restored.one("SELECT count(*) FROM customer_encrypted WHERE envelope.is_stale(email)") == 0
    assert restored.connect("alice").execute(READ).fetchall() == [*ROWS, (4, "new", "row")]
    restored.sql("CALL envelope.refresh('customer')")
    restored.sql("CALL envelope.shred('customer', reason => 'test')")
    assert failure(restored.connect("alice"), READ)[:2] == ("55000", "pg_envelope: the key was destroyed")


def test_by_its_base_table_too_and_only_once(restored: Database) -> None:
    restored.sql("CALL envelope.adopt_restored('customer_encrypted')")
    assert failure(restored.admin, ADOPT)[0] == "42710"
    assert restored.sql(READ) == ROWS


def test_without_constraints_and_view(stack: Stack, shop: Database, tmp_path: Path) -> None:
    """pg_restore --table leaves primary key, triggers and grants out."""
    file = dump(stack, shop, tmp_path / "dump")
    shop.sql(DROP)
    restore(stack, shop, file, "--table", "customer_encrypted")
    adopt = "CALL envelope.adopt_restored('customer_encrypted')"
    sqlstate, _, hint = failure(shop.admin, adopt)
    assert (sqlstate, hint) == ("22023", 'ALTER TABLE "public"."customer_encrypted" ADD PRIMARY KEY ("id")')
    shop.sql(hint)
    shop.sql(adopt)
    assert shop.sql(READ) == ROWS
    shop.sql("INSERT INTO customer VALUES (3, 'new', 'row')")
    assert shop.sql("SELECT check_name FROM envelope.status() WHERE state <> 'ok'") == []


def test_row_security(stack: Stack, db: Database, tmp_path: Path) -> None:
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text, note text)")
    db.sql("ALTER TABLE customer ENABLE ROW LEVEL SECURITY")
    db.sql("CREATE POLICY visible ON customer USING (id = 1)")
    db.sql("GRANT SELECT ON customer TO alice")
    db.sql("INSERT INTO customer VALUES (1, 'a@b.c', 'one'), (2, 'd@e.f', NULL)")
    db.sql(PROTECT)
    file = dump(stack, db, tmp_path / "dump")
    db.sql(DROP)
    restore(stack, db, file)
    db.sql(ADOPT)
    assert db.sql(READ) == ROWS
    assert db.connect("alice").execute(READ).fetchall() == ROWS[:1]


def test_subjects_keep_their_keys(stack: Stack, db: Database, tmp_path: Path) -> None:
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text, note text NOT NULL)")
    db.sql("INSERT INTO customer VALUES (1, 'a@b.c', 'ann'), (2, 'd@e.f', 'ben')")
    db.sql("""CALL envelope.protect('customer', '["email"]', scope => 'subject', scope_column => 'note')""")
    file = dump(stack, db, tmp_path / "dump")
    db.sql(DROP)
    restore(stack, db, file)
    db.sql(ADOPT)
    db.sql("INSERT INTO customer VALUES (3, 'new', 'ann')")
    assert db.sql("SELECT scope, version FROM envelope_private.dek WHERE scope IS NOT NULL ORDER BY 1") == [
        ("ann", 1),
        ("ben", 1),
    ]
    db.sql("CALL envelope.shred('customer', 'ann', 'ticket 7')")
    assert db.sql("SELECT email FROM customer WHERE note = 'ben'") == [("d@e.f",)]


def test_a_name_as_long_as_postgresql_knows(stack: Stack, db: Database, tmp_path: Path) -> None:
    name = "n" * 63
    db.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, email text, note text)")
    db.sql(f"INSERT INTO {name} VALUES (1, 'a@b.c', 'one')")
    db.sql(PROTECT.replace("customer", name))
    base = db.one("SELECT base::text FROM envelope_private.key WHERE base IS NOT NULL")
    file = tmp_path / "dump"
    run(stack.cluster, db.name, "pg_dump", "--format=custom", "--table", name, "--table", base, "--file", file)
    db.sql(f"DROP VIEW {name}; DROP TABLE {base} CASCADE")
    restore(stack, db, file)
    assert check(db, "restored")[0] == "failed"
    db.sql(f"CALL envelope.adopt_restored('{name}')")
    db.sql(f"INSERT INTO {name} VALUES (2, 'new', NULL)")
    assert db.sql(f"SELECT email FROM {name} ORDER BY id") == [("a@b.c",), ("new",)]
    assert db.sql("SELECT check_name FROM envelope.status() WHERE state <> 'ok'") == []


def test_another_table_of_the_same_columns_is_none_of_its(stack: Stack, shop: Database, tmp_path: Path) -> None:
    """Envelopes say whose they are; an empty table does not."""
    shop.sql("CREATE TABLE twin (id int PRIMARY KEY, email text, note text)")
    shop.sql("INSERT INTO twin VALUES (1, 'twin', 'twin')")
    shop.sql(PROTECT.replace("customer", "twin"))
    file = dump(stack, shop, tmp_path / "dump")
    shop.sql(DROP)
    shop.sql("DROP VIEW twin; DROP TABLE twin_encrypted CASCADE")
    restore(stack, shop, file)
    shop.sql(ADOPT)
    assert shop.sql(READ) == ROWS
    shop.sql("CREATE TABLE foreign_encrypted (LIKE customer_encrypted INCLUDING ALL)")
    shop.sql("INSERT INTO foreign_encrypted SELECT * FROM customer_encrypted")
    assert failure(shop.admin, "CALL envelope.adopt_restored('foreign_encrypted')")[0] == "42704"


def test_an_empty_table_that_two_keys_fit(shop: Database) -> None:
    shop.sql("CREATE TABLE twin (id int PRIMARY KEY, email text, note text)")
    shop.sql(PROTECT.replace("customer", "twin"))
    shop.sql("CREATE TABLE back_encrypted (LIKE customer_encrypted INCLUDING ALL)")
    shop.sql(DROP)
    shop.sql("DROP VIEW twin; DROP TABLE twin_encrypted CASCADE")
    adopt = "CALL envelope.adopt_restored('back_encrypted'{})"
    sqlstate, _, hint = failure(shop.admin, adopt.format(""))
    assert (sqlstate, "key => " in hint) == ("22023", True)
    key = shop.one("SELECT key::text FROM envelope.dropped_keys LIMIT 1")
    shop.sql(adopt.format(f", '{key}'"))
    shop.sql("INSERT INTO back VALUES (1, 'new', 'row')")
    assert shop.sql("TABLE back") == [(1, "new", "row")]


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("CALL envelope.adopt_restored('plain')", "42704"),
        ("CALL envelope.adopt_restored(NULL)", "22023"),
        ("CALL envelope.adopt_restored('customer')", "42710"),
        ("CALL envelope.shred_dropped(NULL, 'test')", "42704"),
        ("CALL envelope.shred_dropped(gen_random_uuid(), 'test')", "42704"),
    ],
)
def test_refusals(shop: Database, statement: str, sqlstate: str) -> None:
    shop.sql("CREATE TABLE plain (id int PRIMARY KEY, email text)")
    assert failure(shop.admin, statement)[0] == sqlstate
    assert shop.sql(READ) == ROWS


def test_only_superusers(shop: Database) -> None:
    shop.sql("GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA envelope TO alice")
    alice = shop.connect("alice")
    for statement in (ADOPT, "CALL envelope.shred_dropped(gen_random_uuid(), 'test')"):
        assert failure(alice, statement)[0] == "42501"


class TestDroppedKeys:
    @pytest.mark.usefixtures("policy")
    def test_a_backup_of_a_dropped_table_is_erased(self, stack: Stack, shop: Database, tmp_path: Path) -> None:
        file = dump(stack, shop, tmp_path / "dump")
        shop.sql(DROP)
        ((key, columns, versions),) = shop.sql("SELECT key::text, columns, living_versions FROM envelope.dropped_keys")
        assert (columns, versions) == (["email", "note"], 1)
        assert failure(shop.admin, f"CALL envelope.shred_dropped('{key}', ' ')")[0] == "22023"
        shop.sql(f"CALL envelope.shred_dropped('{key}', 'ticket 7')")
        assert shop.sql("SELECT living_versions FROM envelope.dropped_keys") == [(0,)]
        restore(stack, shop, file)
        shop.sql(ADOPT)
        assert failure(shop.admin, READ)[:2] == ("55000", "pg_envelope: the key was destroyed")

    def test_not_while_a_table_uses_them(self, shop: Database) -> None:
        key = shop.one("SELECT key_uuid::text FROM envelope_private.key WHERE base IS NOT NULL")
        sqlstate, _, hint = failure(shop.admin, f"CALL envelope.shred_dropped('{key}', 'test')")
        assert (sqlstate, "envelope.shred(" in hint) == ("22023", True)
        assert shop.sql(READ) == ROWS

    def test_nor_while_another_table_shares_them(self, db: Database) -> None:
        db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
        db.sql("CREATE TABLE mail (id int PRIMARY KEY, person text NOT NULL, body text)")
        db.sql("""CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'person')""")
        db.sql(
            """CALL envelope.protect('mail', '["body"]', scope => 'subject', scope_column => 'person',
               scope_of => 'visit')"""
        )
        db.sql("INSERT INTO visit VALUES (1, 'ann', 'one')")
        db.sql("INSERT INTO mail VALUES (1, 'ann', 'hello')")
        db.sql("DROP VIEW visit; DROP TABLE visit_encrypted CASCADE")
        key = db.one("SELECT key::text FROM envelope.dropped_keys")
        assert failure(db.admin, f"CALL envelope.shred_dropped('{key}', 'test', 'ann')")[0] == "22023"
        assert db.sql("SELECT body FROM mail") == [("hello",)]
        db.sql("DROP VIEW mail; DROP TABLE mail_encrypted CASCADE")
        db.sql(f"CALL envelope.shred_dropped('{key}', 'test', 'ann')")
        assert db.one("SELECT state FROM envelope_private.dek WHERE scope = 'ann'") == "destroyed"
