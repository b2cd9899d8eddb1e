"""Every place where PostgreSQL runs code of a table's owner, what that code tries, and what a session consists of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

# Each changes the session of a superuser, if nothing prevents it. It is to be gone afterwards, whether PostgreSQL
# refuses it, the package takes it away, or it ends by itself.
LEAVES = (
    "SET search_path = evil, pg_catalog",
    "SET LOCAL search_path = evil, pg_catalog",
    "SELECT pg_catalog.set_config('search_path', 'evil, pg_catalog', false)",
    "SELECT pg_catalog.set_config('work_mem', '66MB', true)",
    "SET statement_timeout = '66s'",
    "SET row_security = off",
    "SET default_transaction_read_only = on",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET session_replication_role = replica",
    "SET check_function_bodies = off",
    "SET my.flag = 'evil'",
    "RESET work_mem",
    "RESET ALL",
    "SET search_path = evil, pg_catalog",
    "ALTER ROLE owner SUPERUSER",
    "GRANT pg_execute_server_program TO owner",
    "DISCARD TEMP",
    "LISTEN evil",
    "UNLISTEN *",
    "PREPARE evil AS SELECT 1",
    "DEALLOCATE ALL",
    "DECLARE evil_held CURSOR WITH HOLD FOR SELECT public.attack('cursor')",
    "DECLARE evil_open CURSOR FOR SELECT public.attack('cursor')",
    "CREATE TEMPORARY TABLE evil (x int)",
    "CREATE TABLE pg_temp.evil (x int)",
    "CREATE TEMPORARY VIEW evil AS SELECT 1 AS x",
    "CREATE TEMPORARY SEQUENCE evil",
    "CREATE TYPE pg_temp.evil AS (x int)",
    "SELECT pg_catalog.pg_advisory_lock(66)",
    "SELECT pg_catalog.pg_advisory_lock(66)",
    "SELECT pg_catalog.pg_advisory_lock(-66, 66)",
    "SELECT pg_catalog.pg_advisory_lock_shared(-67)",
    "SELECT pg_catalog.pg_try_advisory_lock_shared(-1, -2)",
    "CLOSE mine",
    "CLOSE ALL",
)
# Each would be more than the owner's rights, or run later.
ESCAPES = (
    "SET ROLE postgres",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION postgres",
    "RESET SESSION AUTHORIZATION",
    "ALTER SYSTEM SET work_mem = '66MB'",
    "COPY (SELECT) TO PROGRAM 'true'",
    "LOAD 'plpgsql'",
    "DISCARD ALL",
    "DISCARD PLANS",
    "NOTIFY evil",
    "SELECT pg_catalog.pg_advisory_xact_lock(68)",
    "SELECT pg_catalog.lo_create(0)",
    "INSERT INTO public.later VALUES (1)",
    "DO $do$ BEGIN RAISE NOTICE 'from the owner'; END $do$",
    "SET CONSTRAINTS ALL IMMEDIATE",
)
# What is refused, with all that the statement did.
REFUSED = (
    "CREATE FUNCTION pg_temp.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE DOMAIN pg_temp.evil AS text",
    "CREATE TYPE pg_temp.evil AS ENUM ('x')",
    "CREATE OPERATOR pg_temp.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = pg_catalog.uuid_eq)",
    "SELECT pg_catalog.pg_advisory_unlock(1)",
    "SELECT pg_catalog.pg_advisory_unlock_all()",
)

# `attacks` is empty while the owner prepares its table. A row of `seen` says which code ran, and as whom.
ATTACK = """
CREATE SCHEMA evil;
CREATE TABLE seen (code text NOT NULL, who text NOT NULL, xid xid8 NOT NULL);
CREATE INDEX ON seen (xid, code);
CREATE TABLE attacks (position int, statement text NOT NULL);
GRANT ALL ON seen, attacks TO PUBLIC;
CREATE FUNCTION attack(code text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    statements text[] := ARRAY(SELECT statement FROM public.attacks ORDER BY position USING OPERATOR(pg_catalog.<));
    tried text;
BEGIN
    IF statements OPERATOR(pg_catalog.=) '{}' OR 1 OPERATOR(pg_catalog.<) (
        SELECT pg_catalog.count(*) FROM public.seen s WHERE s.xid OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()
            AND s.code OPERATOR(pg_catalog.=) attack.code)
    THEN
        RETURN true;
    END IF;
    INSERT INTO public.seen VALUES (code, current_user, pg_catalog.pg_current_xact_id());
    FOREACH tried IN ARRAY statements LOOP
        BEGIN EXECUTE tried; EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    INSERT INTO public.seen VALUES (code, current_user, pg_catalog.pg_current_xact_id());
    RETURN true;
END $$;
CREATE FUNCTION attack_int(code text, value int) RETURNS int LANGUAGE plpgsql AS
    'BEGIN PERFORM public.attack(code); RETURN value; END';
CREATE FUNCTION sneak(code text, value int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN PERFORM public.attack(code); RETURN value; END';
CREATE FUNCTION differ(float8, float8) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN PERFORM public.in_an_index(); RETURN $1 OPERATOR(pg_catalog.-) $2; END';
-- An error that is caught while an index holds locks breaks the statement: this code tries only what raises none.
CREATE FUNCTION in_an_index() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM public.attacks) THEN
        PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', false);
        INSERT INTO public.seen SELECT 'operator class', current_user, pg_catalog.pg_current_xact_id()
        WHERE NOT EXISTS (SELECT FROM public.seen s WHERE s.xid OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()
            AND s.code OPERATOR(pg_catalog.=) 'operator class');
    END IF;
END $$;
CREATE FUNCTION same(int, int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RETURN public.attack('operator'); END $$;
CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = public.same);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM public.attack(TG_ARGV[0]); RETURN coalesce(NEW, OLD); END';
CREATE TABLE later (x int);
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION fire('deferred');
CREATE DOMAIN sly AS text CHECK (public.attack('domain'));
CREATE DOMAIN sly_int AS int CHECK (public.attack('open domain'));
CREATE TYPE nest AS (inner_value sly);
CREATE TYPE pair AS (a text, b int);
CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM public.attack('cast to text'); RETURN '(' || ($1).a || ',' || ($1).b || ')'; END $$;
CREATE FUNCTION text_pair(text) RETURNS pair LANGUAGE plpgsql AS
    $$ BEGIN PERFORM public.attack('cast from text'); RETURN ROW($1, 1)::public.pair; END $$;
CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair) AS IMPLICIT;
CREATE CAST (text AS pair) WITH FUNCTION text_pair(text) AS IMPLICIT;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM public.attack('cast to text'); RETURN pg_catalog.enum_out($1); END $$;
CREATE FUNCTION text_mood(text) RETURNS mood LANGUAGE plpgsql AS
    $$ BEGIN PERFORM public.attack('cast from text'); RETURN 'bad'::public.mood; END $$;
CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood) AS IMPLICIT;
CREATE CAST (text AS mood) WITH FUNCTION text_mood(text) AS IMPLICIT;
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = differ);
CREATE TABLE parent (n sly_int PRIMARY KEY);
INSERT INTO parent VALUES (1), (2), (3);
CREATE TABLE t (id sly_int PRIMARY KEY, whose sly NOT NULL, secret text, password text, n int DEFAULT 1,
    in_domain sly, in_nest nest, in_array sly[], in_pair pair, in_mood mood);
INSERT INTO t SELECT i, 's' || i % 2, 'x', CASE i WHEN 1 THEN 'hunter2' END, i, 'x', '(x)', '{x}', '(x,1)', 'good'
FROM generate_series(1, 3) AS i"""

# What the owner does to the table before protect(). Where nothing meets a hook, it is here to show that.
HOOKS = (
    "ALTER TABLE t ADD CHECK (attack('CHECK ' || secret || in_domain))",
    "ALTER TABLE t ADD CHECK (attack('CHECK ' || n))",
    "ALTER TABLE t ADD CHECK (attack('CHECK ' || secret)) NOT VALID",
    "ALTER TABLE t ADD CHECK (n === n)",
    "ALTER TABLE t ADD CHECK ('(a)'::nest IS NOT NULL OR secret > '')",
    "ALTER TABLE t ALTER n SET DEFAULT attack_int('default', 7)",
    "ALTER TABLE t ALTER secret SET DEFAULT attack_int('default', 7)::text",
    "ALTER TABLE t ALTER in_nest SET DEFAULT '(a)'",
    "ALTER TABLE t ADD d nest DEFAULT '(a)'",
    "ALTER TABLE t ADD g int GENERATED ALWAYS AS (sneak('generated', length(password))) STORED",
    "CREATE INDEX ON t (sneak('index', n))",
    "CREATE UNIQUE INDEX ON t (sneak('unique index', n))",
    "CREATE INDEX ON t (n) WHERE sneak('predicate', n) > 0",
    "ALTER TABLE t ADD EXCLUDE USING btree ((sneak('exclusion', n)) WITH =)",
    "CREATE STATISTICS s ON (sneak('statistics', n)), n FROM t",
    "ALTER TABLE t ADD FOREIGN KEY (n) REFERENCES parent ON UPDATE CASCADE",
    "ALTER TABLE t ADD parent int REFERENCES t (id) ON UPDATE CASCADE ON DELETE CASCADE",
)
SPANS = (
    "ALTER TABLE t ADD s span",
    "INSERT INTO t (id, whose, secret, n, s) SELECT i, 's1', 'x', i, span(i, i + 1) FROM generate_series(10, 40) AS i",
    "CREATE INDEX ON t USING gist (s) WITH (fillfactor = 10)",
)
TRIGGERS = tuple(
    f"CREATE {kind} {name}_trigger {when} EXECUTE FUNCTION fire('{name} trigger');"
    f"ALTER TABLE t ENABLE {enabled} TRIGGER {name}_trigger"
    for name, kind, when, enabled in (
        ("before", "TRIGGER", "BEFORE INSERT OR UPDATE ON t FOR EACH ROW", "ALWAYS"),
        ("after", "TRIGGER", "AFTER UPDATE ON t FOR EACH ROW", "ALWAYS"),
        ("replica", "TRIGGER", "AFTER UPDATE ON t FOR EACH ROW", "REPLICA"),
        ("statement", "TRIGGER", "BEFORE UPDATE ON t FOR EACH STATEMENT", "ALWAYS"),
        ("constraint", "CONSTRAINT TRIGGER", "AFTER UPDATE ON t DEFERRABLE FOR EACH ROW", "ALWAYS"),
        ("ordinary", "TRIGGER", "BEFORE INSERT OR UPDATE ON t FOR EACH ROW", ""),
    )
)
SCHEDULES = (
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON t USING (attack('policy')) WITH CHECK (attack('policy'))",
)
# What it does to view and table after protect(), if it has not broken them.
AFTER = (
    "ALTER TABLE t_encrypted ADD CHECK (attack('CHECK below ' || n))",
    "CREATE INDEX ON t_encrypted (sneak('index below', n))",
    "CREATE TRIGGER below BEFORE UPDATE ON t_encrypted FOR EACH ROW EXECUTE FUNCTION fire('trigger below');"
    "ALTER TABLE t_encrypted ENABLE ALWAYS TRIGGER below",
    "CREATE RULE r AS ON INSERT TO t DO ALSO SELECT attack('rule')",
    "ALTER VIEW t ALTER n SET DEFAULT attack_int('default of the view', 1)",
)
# Row policies do not bind a table's owner, and ANALYZE is nobody's step: their code must be harmless when it runs.
TABLES = {"expressions": HOOKS, "triggers": TRIGGERS, "row policies": (*HOOKS, *SCHEDULES), "operator classes": SPANS}
# The code that must have run, or the test shows nothing.
RUNS = {
    "expressions": {"CHECK xx", "CHECK 1", "CHECK x", "operator", "domain"}
    | {"generated", "index", "unique index", "predicate", "exclusion", "CHECK below 1", "index below", "trigger below"},
    "triggers": {"before trigger", "after trigger", "statement trigger", "constraint trigger", "ordinary trigger"},
    "row policies": {"CHECK xx", "domain", "index"},
    "operator classes": {"operator class"},
}

# All that a session has, and the roles' attributes. A setting that came into being keeps its empty value.
SESSION = """
SELECT 'setting', name, setting || ' ' || source FROM pg_settings
UNION ALL SELECT 'setting', 'my.flag', current_setting('my.flag', true)
UNION ALL SELECT 'role', current_user::text, session_user::text
UNION ALL SELECT 'lock', mode, format('%s %s %s', classid, objid, objsubid) FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND (classid, objid) IN (SELECT 0, 1
        UNION SELECT 0, 66 UNION SELECT 4294967230, 66 UNION SELECT 4294967295, 4294967229
        UNION SELECT 4294967295, 4294967294)
UNION ALL SELECT 'prepared', name, statement FROM pg_prepared_statements
UNION ALL SELECT 'cursor', name, statement FROM pg_cursors
UNION ALL SELECT 'channel', pg_listening_channels(), NULL
UNION ALL SELECT 'temporary', classid::regclass::text, objid::text FROM pg_depend
    WHERE refclassid = 'pg_namespace'::regclass AND refobjid = pg_my_temp_schema()
UNION ALL SELECT 'role', rolname, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication,
    rolbypassrls, rolconfig) FROM pg_roles
UNION ALL SELECT 'member', roleid::regrole::text, member::regrole::text FROM pg_auth_members
UNION ALL SELECT 'set for', setdatabase::text, setconfig::text FROM pg_db_role_setting
ORDER BY 1, 2, 3"""


def session(connection: psycopg.Connection[Any]) -> set[tuple[Any, ...]]:
    return set(connection.execute(SESSION).fetchall())


def superuser(db: Database) -> psycopg.Connection[Any]:
    """A session that has something of everything."""
    connection = db.connect()
    connection.prepare_threshold = None
    for statement in (
        # Their settings come into being when the libraries are loaded.
        "LOAD 'plpgsql'",
        "LOAD 'pgcrypto'",
        "LOAD 'plpython3'",
        "SET search_path = public",
        "SET work_mem = '5MB'",
        "SET my.flag = 'mine'",
        "LISTEN mine",
        "PREPARE mine AS SELECT 1",
        "CREATE TEMPORARY TABLE mine (x int)",
        "SELECT pg_advisory_lock(1)",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
    ):
        connection.execute(statement)
    return connection


@pytest.fixture
def hostile(db: Database, owner: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """The owner's session, with its code and its table t made."""
    db.sql(f"GRANT CREATE ON DATABASE {db.name} TO owner")
    owner.execute(ATTACK)
    return owner


@contextmanager
def attacks(db: Database, statements: tuple[str, ...]) -> Iterator[None]:
    """While it is open, the owner's code tries these."""
    db.sql(
        "INSERT INTO attacks (statement, position) SELECT * FROM unnest(%s::text[]) WITH ORDINALITY", list(statements)
    )
    try:
        yield
    finally:
        db.sql("TRUNCATE attacks")
