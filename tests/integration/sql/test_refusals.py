"""What protect() cannot carry over it refuses with one clear message, and leaves everything as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import Diagnostic

from tests.fix_stack import Database

CATALOGS = ("pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_depend", "pg_type", "pg_proc", "pg_trigger")
STATE = ("installation", "key", "dek", "field", "field_key", "capability")

T = "CREATE TABLE t (id int PRIMARY KEY, a text, b int);"
# What stands in the way → the columns asked for, and what the message must name.
OBSTACLES = {
    "CREATE INDEX on_a ON t USING hash (a)": "index on_a",
    "CREATE INDEX in_reverse ON t (a text_pattern_ops)": "index in_reverse",
    "CREATE INDEX on_upper ON t (upper(a))": "index on_upper",
    "CREATE INDEX partly ON t (b) WHERE a > ''": "index partly",
    "CREATE INDEX covering ON t (b) INCLUDE (a)": "index covering",
    "CREATE INDEX whole ON t ((t IS NULL))": "index whole",
    "ALTER TABLE t ADD CONSTRAINT only_once UNIQUE (a) DEFERRABLE": "constraint only_once",
    "ALTER TABLE t ADD UNIQUE (a); CREATE TABLE o (a text CONSTRAINT k REFERENCES t (a))": "constraint k",
    "ALTER TABLE t ADD CONSTRAINT apart EXCLUDE USING btree (a WITH =)": "constraint apart",
    "CREATE TABLE o (a text PRIMARY KEY); ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES o": "constraint k",
    "ALTER TABLE t ADD g text GENERATED ALWAYS AS (upper(a)) STORED": "column g of table t, a generated column that",
    "ALTER TABLE t ADD CONSTRAINT full_row CHECK (t IS NOT NULL)": "full_row uses the whole row",
    "CREATE PUBLICATION news FOR TABLE t WHERE (a > '')": "publication",
    "CREATE POLICY mine ON t USING (a = current_user)": "policy mine on table t, which would see an envelope",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    "CREATE TRIGGER cond BEFORE UPDATE ON t FOR EACH ROW WHEN (OLD.a = NEW.a) EXECUTE FUNCTION f()": "trigger cond",
    "CREATE VIEW v AS SELECT t FROM t": "column t of view v uses the row type",
    "CREATE VIEW v AS SELECT id, a FROM t GROUP BY id": "view v: a view has no primary key",
    "CREATE VIEW v AS SELECT id FROM t TABLESAMPLE system (10)": "view v: TABLESAMPLE",
    "CREATE VIEW v AS SELECT ctid FROM t": "view v: column ctid does not exist",
    "CREATE FUNCTION f() RETURNS tid BEGIN ATOMIC SELECT ctid FROM t; END": "function f(): column ctid does not",
    "CREATE INDEX ON t (a); "
    "CREATE FUNCTION f() RETURNS SETOF t BEGIN ATOMIC SELECT * FROM t; END": "f(): it names each column of the row",
    "CREATE TEMPORARY VIEW v AS SELECT a FROM t": "view v is temporary",
    "CREATE MATERIALIZED VIEW m AS SELECT a FROM t": "column a would stay readable in materialized view m",
    "CREATE MATERIALIZED VIEW m AS SELECT to_jsonb(t) FROM t": "readable in materialized view m",
    "CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT 1 FROM v;"
    "CREATE MATERIALIZED VIEW m AS SELECT * FROM w": "readable in materialized view m",
    "CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT a FROM t; END;"
    "CREATE MATERIALIZED VIEW m AS SELECT f()": "readable in materialized view m",
    "CREATE FUNCTION f(t) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';"
    "CREATE TABLE o (n int CHECK (f(NULL) > 0))": "constraint o_check on table o uses the row type",
    "CREATE FUNCTION f(int, t) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';"
    "CREATE AGGREGATE s (t) (SFUNC = f, STYPE = int)": "function s(t) uses the row type",
    "CREATE FUNCTION f(t) RETURNS text LANGUAGE sql AS 'SELECT 1';"
    "CREATE CAST (t AS text) WITH FUNCTION f(t)": "cast from t to text uses",
    "CREATE DOMAIN d AS t": "type d uses the row type",
    "CREATE TABLE o (was t)": "column was of table o",
    "CREATE TABLE o (were t[])": "column were of table o",
    "CREATE RULE r AS ON DELETE TO t WHERE old.b > 1 DO INSTEAD NOTHING": "rule r belongs to it",
    "CREATE RULE r AS ON INSERT TO t DO ALSO NOTIFY made; ALTER TABLE t ENABLE ALWAYS RULE r": "rule r belongs to it",
    "CREATE TABLE t_encrypted ()": "base table's name is taken: t_encrypted",
    "CREATE SEQUENCE t_encrypted": "base table's name is taken: t_encrypted",
    "CREATE FUNCTION t_envelope_insert() RETURNS int LANGUAGE sql AS 'SELECT 1'": "t_envelope_insert",
    "ALTER TABLE t ALTER a TYPE money USING NULL": "holds money",
    "ALTER TABLE t ALTER a TYPE regclass USING NULL": "column a holds regclass, which names an object",
    "ALTER TABLE t ALTER a TYPE regtype[] USING NULL": "column a holds regtype",
    "CREATE DOMAIN who AS regrole; CREATE TYPE job AS (n int, w who[]);"
    "ALTER TABLE t ALTER a TYPE job USING NULL": "column a holds regrole",
    "ALTER TABLE t ALTER a TYPE aclitem[] USING NULL": "column a holds aclitem, which names roles",
    "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD k regproc, ADD PRIMARY KEY (id, k)": "key column k holds regproc",
    "ALTER TABLE t ALTER a TYPE xml[] USING NULL": "column a holds xml, which loses its declaration",
    "CREATE TYPE page AS (n int, body xml); ALTER TABLE t ALTER a TYPE page USING NULL": "column a holds xml",
    "ALTER TABLE t ALTER a TYPE pg_node_tree USING NULL": "column a holds pg_node_tree, which PostgreSQL writes",
    "CREATE EXTENSION seg SCHEMA pg_catalog; ALTER TABLE t ALTER a TYPE seg[] USING NULL": "column a holds seg",
    "CREATE TYPE c; CREATE FUNCTION c_in(cstring) RETURNS c LANGUAGE internal IMMUTABLE STRICT AS 'regclassin';"
    "CREATE FUNCTION c_out(c) RETURNS cstring LANGUAGE internal STABLE STRICT AS 'regclassout';"
    "CREATE TYPE c (INPUT = c_in, OUTPUT = c_out, LIKE = regclass); CREATE DOMAIN d AS c;"
    "ALTER TABLE t ALTER a TYPE d[] USING NULL": "column a holds regclass",
    "INSERT INTO t VALUES (1); ALTER TABLE t ALTER a TYPE timestamp(0)"
    " USING '294276-12-31 23:59:59.9'::timestamp": "column a has values that are more than the text",
    "ALTER TABLE t DROP a, ADD a int GENERATED ALWAYS AS IDENTITY": "identity column",
    "ALTER TABLE t DROP a, ADD a text GENERATED ALWAYS AS ('x') STORED": "generated column",
    "ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER a SET NOT NULL, ADD PRIMARY KEY (id, a)": "part of the primary key",
    "REVOKE ALL ON SCHEMA public FROM PUBLIC, owner; ALTER TABLE t OWNER TO owner": "no USAGE on schema public",
    "CREATE ROLE above_policies BYPASSRLS; GRANT CREATE ON SCHEMA public TO above_policies;"
    "ALTER TABLE t OWNER TO above_policies": "above_policies has BYPASSRLS",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT (a) ON t TO alice": "privileges on single columns",
}
KINDS = {
    "CREATE TABLE p (id int, a text) PARTITION BY HASH (id);"
    "CREATE TABLE t PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0)": "a partition",
    "CREATE TEMPORARY TABLE t (id int PRIMARY KEY, a text)": "a temporary table",
    "CREATE VIEW t AS SELECT 1 AS id, 'x' AS a": "a view",
    "CREATE MATERIALIZED VIEW t AS SELECT 1 AS id, 'x' AS a": "a materialized view",
    "CREATE SEQUENCE t": "a sequence",
    "CREATE TABLE parent (id int, a text); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (parent)": "an inheritance tree",
    "CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE child () INHERITS (t)": "an inheritance tree",
    "CREATE TYPE r AS (id int, a text); CREATE TABLE t OF r (PRIMARY KEY (id))": "a typed table",
    "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE t (id int, a text)"
    " SERVER s": "a foreign table",
}
WAYS_OUT = {
    "a partition": ["Protect the whole table", "DETACH PARTITION"],
    "an inheritance tree": ["NO INHERIT"],
    "a typed table": ["NOT OF"],
    "a view": ["tables from which it reads"],
}
BAD_COLUMNS = {
    '["nope"]': ("22023", "no such column"),
    '["A"]': ("22023", "no such column"),
    '["a", "a"]': ("22023", "different names"),
    "[]": ("22023", "at least one"),
    "{}": ("22023", "at least one"),
    "null": ("22023", "at least one"),
    '"a"': ("22023", "at least one"),
    "[1]": ("22023", "different names"),
    '[["a"]]': ("22023", "different names"),
    '{"a": 1}': ("22023", "must be an object"),
    '{"a": {"colour": "red"}}': ("22023", "unknown options: colour"),
    '{"a": {"bind": "table"}}': ("22023", "bind must be"),
    '{"a": {"bind": ["row"]}}': ("22023", "bind must be"),
    '{"a": {"bind": null}}': ("22023", "bind must be"),
    '{"a": {"suite": 6}}': ("22023", "unknown suite"),
    '{"a": {"suite": 4}}': ("22023", "cannot be bound by row"),
    '{"a": {"suite": 4, "bind": "row"}}': ("22023", "cannot be bound by row"),
    '{"a": {"suite": 4, "bind": "column", "force": "yes"}}': ("22023", "force must be"),
    '{"a": {"force": true}}': ("22023", "force is an option of suite 4"),
    '{"a": {"suite": "1"}}': ("22023", "unknown suite"),
    '{"a": {"suite": true}}': ("22023", "unknown suite"),
    '{"a": {"pad": "yes"}}': ("22023", "pad must be"),
    '{"a": {"pad": 1}}': ("22023", "pad must be"),
}


def snapshot(db: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the catalogs, and of the extension's own state, as text."""
    tables = [*CATALOGS, *(f"envelope_private.{name}" for name in STATE)]
    return {table: db.sql(f"SELECT x::text FROM {table} x ORDER BY 1") for table in tables}


def refused(db: Database, call: str) -> Diagnostic:
    """What a call that must fail tells."""
    with pytest.raises(psycopg.Error) as error, db.admin.transaction():
        db.sql(call)
    found = error.value.diag
    assert (found.message_primary or "").startswith("pg_envelope: ")
    assert found.message_hint
    return found


def detail(found: Diagnostic) -> str:
    return (found.message_detail or "").replace("public.", "")


@pytest.fixture
def db(shared_db: Database) -> Iterator[Database]:
    """What a test makes is rolled back: much quicker than a database for each."""
    with shared_db.admin.transaction(force_rollback=True):
        yield shared_db


def unqualified(text: str) -> str:
    """PostgreSQL 18 names the column of a view's only table by itself, in double quotes."""
    return re.sub(r'column (?:t\.)?"?(\w+)"? does', r"column \1 does", text)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_uses_the_column_is_listed(db: Database, obstacle: str) -> None:
    db.sql(T + obstacle)
    found = refused(db, """CALL envelope.protect('t', '["a"]')""")
    assert found.sqlstate == "0A000"
    assert OBSTACLES[obstacle] in unqualified(detail(found))


@pytest.mark.parametrize("table", KINDS)
def test_other_kinds_of_tables_are_named(db: Database, table: str) -> None:
    db.sql(table)
    found = refused(db, """CALL envelope.protect('t', '["a"]')""")
    assert found.sqlstate == "0A000"
    assert KINDS[table] in (found.message_primary or "")
    assert found.message_hint
    for word in WAYS_OUT.get(KINDS[table], ()):
        assert word in found.message_hint


def test_system_tables_and_extension_tables_are_not_protected(db: Database) -> None:
    for table in ("pg_catalog.pg_class", "envelope_private.field"):
        assert refused(db, f"""CALL envelope.protect('{table}', '["x"]')""").sqlstate == "0A000"


def test_bad_columns_and_options(db: Database) -> None:
    db.sql(T)
    for columns, (sqlstate, words) in BAD_COLUMNS.items():
        found = refused(db, f"CALL envelope.protect('t', '{columns}')")
        assert (found.sqlstate, words in (found.message_primary or "")) == (sqlstate, True), columns


def test_a_refusal_after_keys_were_made_changes_nothing(shared_db: Database) -> None:
    """A value that its domain takes no more stops protect() halfway; nothing else of it stays."""
    shared_db.sql("CREATE TABLE half (id int PRIMARY KEY, a text)")
    shared_db.sql("INSERT INTO half VALUES (1, 'x')")
    before = snapshot(shared_db)
    with shared_db.connect() as other:
        other.execute("BEGIN; SELECT FROM half")
        shared_db.sql("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            shared_db.sql("""CALL envelope.protect('half', '["a"]')""")
        shared_db.sql("RESET lock_timeout")
    assert snapshot(shared_db) == before


def test_all_obstacles_are_in_one_list(db: Database) -> None:
    db.sql(T + "CREATE INDEX on_a ON t (upper(a)); CREATE VIEW v AS SELECT id, b FROM t GROUP BY id")
    db.sql("CREATE RULE r AS ON DELETE TO t DO NOTHING; ALTER TABLE t DISABLE RULE r")
    listed = detail(refused(db, """CALL envelope.protect('t', '["a", "b"]')"""))
    assert all(name in listed for name in ("on_a", "view v", "rule r"))


def test_one_obstructed_column_is_named_to_be_left_out(db: Database) -> None:
    db.sql(T + "CREATE MATERIALIZED VIEW m AS SELECT b FROM t")
    assert """Without b nothing stands in the way: CALL envelope.protect(..., '["a"]')""" in (
        refused(db, """CALL envelope.protect('t', '["a", "b"]')""").message_hint or ""
    )
    db.sql("CREATE RULE r AS ON DELETE TO t DO NOTHING; ALTER TABLE t DISABLE RULE r")
    assert "Without" not in (refused(db, """CALL envelope.protect('t', '["a", "b"]')""").message_hint or "")


def test_no_primary_key(db: Database) -> None:
    db.sql("CREATE TABLE t (a text)")
    found = refused(db, """CALL envelope.protect('t', '["a"]')""")
    assert found.sqlstate == "22023"
    assert '"bind": "column"' in (found.message_hint or "")


def test_protected_already(db: Database) -> None:
    db.sql(T)
    db.sql("""CALL envelope.protect('t', '["a"]')""")
    for name in ("t", "t_encrypted"):
        found = refused(db, f"""CALL envelope.protect('{name}', '["b"]')""")
        assert found.sqlstate == "42710"


@pytest.mark.parametrize(("kek", "store"), [("nope", None), ("default", "cupboard")])
def test_unknown_kek_or_store(db: Database, kek: str, store: str | None) -> None:
    db.sql(T)
    quoted = "NULL" if store is None else f"'{store}'"
    assert refused(db, f"""CALL envelope.protect('t', '["a"]', '{kek}', {quoted})""").sqlstate in ("42704", "22023")


def test_only_a_superuser_may(db: Database) -> None:
    db.sql(T + "ALTER TABLE t OWNER TO owner; SET LOCAL ROLE owner")
    calls = ("protect('t', '[\"a\"]')", "unprotect('t')", "reencrypt('t')")
    for call in calls:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), db.admin.transaction():
            db.sql(f"CALL envelope.{call}")
    db.sql("RESET ROLE; GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA envelope TO owner; SET LOCAL ROLE owner")
    for call in calls:
        assert refused(db, f"CALL envelope.{call}").sqlstate == "42501"


@pytest.mark.parametrize("call", ["unprotect('t')", "refresh('t')", "reencrypt('t')"])
def test_not_protected(db: Database, call: str) -> None:
    db.sql(T)
    assert refused(db, f"CALL envelope.{call}").sqlstate == "42704"


def test_unprotect_lists_what_needs_a_search_column(db: Database) -> None:
    db.sql(T)
    db.sql("""CALL envelope.protect('t', '{"a": {"search": "exact"}}')""")
    db.sql("CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT b FROM t WHERE a_search = 'x'")
    for call in ("unprotect('t')", "drop_search('t', 'a')"):
        found = refused(db, f"CALL envelope.{call}")
        assert found.sqlstate == "0A000"
        assert unqualified(detail(found)) == "- view w: column a_search does not exist"


def test_unprotect_drops_no_trigger_of_the_view(db: Database) -> None:
    db.sql(T)
    db.sql("""CALL envelope.protect('t', '["a"]')""")
    db.sql(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"
        "CREATE TRIGGER mine INSTEAD OF DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    assert detail(refused(db, "CALL envelope.unprotect('t')")) == "- trigger mine is on the view"
