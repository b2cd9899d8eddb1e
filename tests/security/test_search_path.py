"""A search_path whose first schema has a hostile twin of every operator and function: none of them ever runs."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

from .test_hooks import COLUMNS, OWNERS, TABLE_LIFE, TENANT_LIFE

# Twins of pg_catalog's operators, and of its functions as far as PL/pgSQL can stand for them.
OPERATORS = """
SELECT format('CREATE FUNCTION evil.twin_%s(%s) RETURNS %s LANGUAGE plpgsql AS %L;'
    'CREATE OPERATOR evil.%s (%sRIGHTARG = %s, FUNCTION = evil.twin_%s)',
    o.oid, concat_ws(', ', nullif(o.oprleft, 0)::regtype, o.oprright::regtype), o.oprresult::regtype,
    'BEGIN RAISE EXCEPTION USING ERRCODE = ''EVIL1'', MESSAGE = ' || quote_literal(o.oid::regoperator) || '; END',
    o.oprname, CASE o.oprleft WHEN 0 THEN '' ELSE format('LEFTARG = %s, ', o.oprleft::regtype) END,
    o.oprright::regtype, o.oid)
FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprcode <> 0"""
FUNCTIONS = """
SELECT format('CREATE FUNCTION evil.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS %L', p.proname,
    pg_get_function_arguments(p.oid), CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END, p.prorettype::regtype,
    'BEGIN RAISE EXCEPTION USING ERRCODE = ''EVIL1'', MESSAGE = ' || quote_literal(p.oid::regprocedure) || '; END')
FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
    AND p.proargmodes IS NULL AND NOT (ARRAY[p.prorettype] || p.proargtypes::oid[]) && ARRAY(
        SELECT oid FROM pg_type WHERE typtype = 'p' AND (typname = 'any' OR typname NOT LIKE 'any%'))
    AND p.proname NOT IN (SELECT word FROM pg_get_keywords() WHERE catcode IN ('C', 'R'))"""
# A value becomes one of a domain by the domain's CHECK.
TYPE_TWINS = """
SELECT format('CREATE DOMAIN evil.%I AS %s CHECK (evil.type_runs(%L))', t.typname, t.oid::regtype, t.typname)
FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typname NOT LIKE '\\_%'"""
TYPE_RUNS = """
CREATE FUNCTION evil.type_runs(name pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION USING ERRCODE = ''EVIL1'', MESSAGE = name; END'"""
# What PostgreSQL itself has no operator for: an exact match wins, wherever its schema stands in the path.
CROSS = """
SELECT format('CREATE FUNCTION evil.cross_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS ''BEGIN END'';'
    'CREATE OPERATOR evil.%s (LEFTARG = %2$s, RIGHTARG = %3$s, FUNCTION = evil.cross_%1$s)',
    row_number() OVER (), a.typname::regtype, b.typname::regtype, CASE op WHEN '||' THEN 'text' ELSE 'boolean' END, op)
FROM unnest('{=,<>,<,<=,>,||}'::text[]) op, pg_type a, pg_type b
WHERE a.typname = ANY (names) AND b.typname = ANY (names) AND NOT EXISTS (
    SELECT FROM pg_operator o WHERE o.oprname = op AND (o.oprleft, o.oprright) = (a.oid, b.oid))"""
TYPES = "bool bytea char int2 int4 int8 interval json jsonb name oid oidvector pg_lsn regclass regnamespace regproc"
TYPES += " regprocedure regrole regtype text timestamptz uuid varchar xid xid8"
BOUND = """
SELECT pg_describe_object(classid, objid, objsubid), pg_describe_object(refclassid, refobjid, 0) FROM pg_depend
WHERE refclassid = 'pg_operator'::regclass AND refobjid IN (
        SELECT oid FROM pg_operator WHERE oprnamespace = 'evil'::regnamespace)
    OR refclassid = 'pg_proc'::regclass AND classid <> 'pg_operator'::regclass AND refobjid IN (
        SELECT oid FROM pg_proc WHERE pronamespace = 'evil'::regnamespace)"""
PATH = "SET search_path = evil, pg_catalog, public"


@pytest.fixture
def evil(db: Database) -> Database:
    """Somebody's schema, whose twins fail when they are called."""
    db.sql("CREATE SCHEMA evil")
    db.sql("GRANT USAGE ON SCHEMA evil TO PUBLIC")
    db.sql(TYPE_RUNS)
    for query in (OPERATORS, FUNCTIONS, TYPE_TWINS):
        db.sql("SET check_function_bodies = off")
        for (statement,) in db.sql(query):
            db.sql(statement)
    db.sql("CREATE TABLE t (id int PRIMARY KEY, whose text NOT NULL, secret text, password text, n int CHECK (n > 0))")
    db.sql("INSERT INTO t VALUES (1, 's1', 'x', 'hunter2', 1), (2, 's2', 'y', NULL, 2)")
    db.sql("ALTER TABLE t OWNER TO owner")
    return db


def under(db: Database, user: str = "postgres") -> psycopg.Connection[Any]:
    connection = db.connect(user)
    connection.execute(PATH)
    return connection


def test_the_twins_are_in_the_way(evil: Database) -> None:
    """The control."""
    for statement in ("SELECT 1 = 2", "SELECT lower('X')", "SELECT * FROM pg_class WHERE oid = 1", "SELECT 'x'::text"):
        with pytest.raises(psycopg.Error) as raised:
            under(evil).execute(statement)
        assert raised.value.sqlstate == "EVIL1"


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("life", [TABLE_LIFE, TENANT_LIFE], ids=["one key", "a key for each tenant"])
def test_no_procedure_calls_a_twin(evil: Database, life: tuple[str, ...]) -> None:
    """As a superuser, and at its first call in a session."""
    for step in life:
        user = "owner" if step in OWNERS else "postgres"
        under(evil, user).execute(step.replace(COLUMNS, '["secret"]'))


@pytest.mark.usefixtures("policy")
def test_no_reader_and_no_writer_calls_a_twin(evil: Database) -> None:
    for scope in ("", ", scope => 'tenant', scope_column => 'whose'"):
        evil.sql(f"CALL envelope.protect('t', '[\"secret\"]'{scope})")
        evil.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON t TO alice")
        alice = under(evil, "alice")
        read = alice.execute("SELECT secret FROM t ORDER BY id USING OPERATOR(pg_catalog.<)").fetchall()
        assert read == [("x",), ("y",)]
        alice.execute("INSERT INTO t VALUES (3, 's3', 'z', NULL, 3)")
        alice.execute("UPDATE t SET secret = 'zz', id = 4 WHERE id OPERATOR(pg_catalog.=) 3")
        alice.execute("DELETE FROM t WHERE id OPERATOR(pg_catalog.=) 4")
        evil.sql("CALL envelope.unprotect('t')")


ROW_SECURITY = """
GRANT SELECT, UPDATE ON t TO alice; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON t USING (true);
CALL envelope.protect('t', '["secret"]')"""


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("more", ["", '"audit": "row"', '"search": "exact"'], ids=["plain", "audited", "searched"])
def test_no_right_is_asked_with_a_twin(evil: Database, more: str) -> None:
    """PostgreSQL is asked for the right in each statement, by another query from the second on."""
    evil.sql(ROW_SECURITY.replace('["secret"]', f'{{"secret": {{{more}}}}}'))
    alice = under(evil, "alice")
    for _ in range(3):
        assert len(alice.execute("SELECT secret FROM t").fetchall()) == 2
        alice.execute("UPDATE t SET secret = 'zz', n = 3 WHERE id OPERATOR(pg_catalog.=) 1")


CALLS = (
    "SELECT envelope.create_key('k')",
    "SELECT envelope.grant_key('k', 'alice')",
    "SELECT envelope.decrypt(envelope.encrypt('x', 'k', 'c'), 'c')",
    "SELECT envelope.decrypt_bytea(envelope.encrypt('x'::pg_catalog.bytea, 'k', 'c'), 'c')",
    "SELECT envelope.rotate_key('k')",
    "SELECT envelope.compromise_key('k', 1)",
    "CALL envelope.suspend_key('k')",
    "CALL envelope.unsuspend_key('k')",
    "SELECT envelope.create_secret('s')",
    "SELECT envelope_internal.secret_text('s', 1), envelope_internal.secret_bytea('s', 1)",
    "SELECT envelope.secret('s')::pg_catalog.text",
    "SELECT envelope.replace_secret('s'), envelope.reseal_secret('s')",
    "SELECT envelope_pgcrypto.pgp_sym_decrypt(envelope_pgcrypto.pgp_sym_encrypt("
    "'x', envelope.secret('s')::pg_catalog.text), envelope.secret('s')::pg_catalog.text)",
    "SELECT envelope.forbid_literal_keys()",
    "SELECT envelope_pgcrypto.hmac('x', envelope.secret('s')::pg_catalog.text, 'sha256')",
    "SELECT envelope.verify_password('p', envelope.hash_password('p'))",
    "SELECT envelope.password_needs_rehash(envelope.hash_password('p', 'argon2id'))",
    "SELECT envelope.register_backup('b', pg_catalog.now()), envelope.forget_backup('b')",
    "SELECT envelope.set_schedule('kek', '1 day'), envelope.drop_schedule('kek')",
    "SELECT * FROM envelope.signing_keys()",
    "SELECT * FROM envelope.shred_audit()",
    "SELECT envelope.flush('drill')",
    "CALL envelope.shred_key('k', 'drill')",
    "SELECT envelope.revoke_key('k', 'alice')",
    *(f"SELECT * FROM envelope.{view}" for view in ("columns", "keys", "secrets", "progress", "receipts", "schedules")),
)


@pytest.mark.usefixtures("policy")
def test_no_function_calls_a_twin(evil: Database) -> None:
    for call in CALLS:
        under(evil).execute(call)


NAMED = "SELECT envelope.decrypt(envelope.encrypt('x', 'k'))"
# The plan that a session has made under one role's search_path serves its other roles, too.
AS_ANOTHER = f"""
CREATE FUNCTION public.careful() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ {NAMED} $$;
ALTER FUNCTION public.careful() OWNER TO owner"""


@pytest.mark.usefixtures("policy")
def test_no_plan_of_one_role_calls_a_twin_as_another(evil: Database) -> None:
    evil.sql("SELECT envelope.create_key('k'), envelope.grant_key('k', 'alice'), envelope.grant_key('k', 'owner')")
    evil.sql(AS_ANOTHER)
    alice = under(evil, "alice")
    for _ in range(3):
        assert alice.execute(NAMED).fetchall() == [("x",)]
        assert alice.execute("SELECT public.careful()").fetchall() == [("x",)]


def test_create_extension_binds_nothing_of_the_schema_it_is_made_in(db: Database) -> None:
    connection = db.connect()
    connection.execute("DROP EXTENSION pg_envelope")
    connection.execute("CREATE SCHEMA evil")
    query = CROSS.replace("names", f"string_to_array('{TYPES}', ' ')")
    made = [statement for (statement,) in connection.execute(query.encode())]
    assert len(made) > 1000
    connection.execute(";".join(made))
    connection.execute("SET search_path = evil")
    connection.execute("CREATE EXTENSION pg_envelope")
    connection.execute("RESET search_path")
    assert connection.execute(BOUND).fetchall() == []
    connection.execute("CREATE VIEW control AS SELECT 1::oid OPERATOR(evil.||) '1'::xid8 AS x")
    assert len(connection.execute(BOUND).fetchall()) == 1
