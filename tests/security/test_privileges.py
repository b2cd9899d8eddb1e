"""The golden list: who may do what with every object of the extension, and what every function declares."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fix_stack import Database
from tests.security.fix_people import make_people

GOLDEN = Path(__file__).with_name("privileges.txt")
# Lines of the golden list that only a newer server has.
SINCE = {"function envelope_pgcrypto.fips_mode(): everybody EXECUTE": 180000}

OBJECTS = """
WITH ours AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'pg_envelope' AND d.deptype = 'e'
)
SELECT 'schema' AS kind, n.nspname::text AS name, n.oid::regnamespace::text AS handle
    FROM ours JOIN pg_namespace n ON classid = 'pg_namespace'::regclass AND objid = n.oid
UNION ALL
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, p.oid::regprocedure::text,
        p.oid::regprocedure::text
    FROM ours JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
UNION ALL
SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' ELSE 'table' END,
        regexp_replace(c.oid::regclass::text, 'seal_[0-9a-f]{32}$', 'seal_KEY'), c.oid::regclass::text
    FROM ours JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
UNION ALL
SELECT 'type', t.oid::regtype::text, t.oid::regtype::text
    FROM ours JOIN pg_type t ON classid = 'pg_type'::regclass AND objid = t.oid WHERE t.typrelid = 0 AND t.typelem = 0
"""
TESTS = {
    "schema": ("has_schema_privilege", ("USAGE", "CREATE")),
    "function": ("has_function_privilege", ("EXECUTE",)),
    "procedure": ("has_function_privilege", ("EXECUTE",)),
    "table": ("has_table_privilege", ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")),
    "view": ("has_table_privilege", ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")),
    "sequence": ("has_sequence_privilege", ("SELECT", "USAGE", "UPDATE")),
    "type": ("has_type_privilege", ("USAGE",)),
}
# The owner of a protected table, a role that may read it, one that may not, who owns the database, and PUBLIC.
WHO = {
    "owner": "table owner",
    "alice": "granted",
    "bob": "ungranted",
    "pg_database_owner": "database owner",
    "public": "PUBLIC",
}

FUNCTIONS = """
SELECT p.oid::regprocedure::text AS name, p.prosecdef AS definer,
    coalesce('search_path=pg_catalog, pg_temp' = ANY(p.proconfig), false) OR p.prosqlbody IS NOT NULL
        OR l.lanname IN ('c', 'internal') AS pinned, p.prosrc AS body,
    coalesce(obj_description(p.oid, 'pg_proc'), '') AS comment, p.provolatile AS volatility,
    p.proleakproof AS leakproof
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = ANY ('{envelope,envelope_internal,envelope_private}'::regnamespace[]) ORDER BY 1
"""
# What needs no pinned search_path (a SET clause costs 2 µs a call, and stops inlining): a PL/Python body that only
# hands over to the package, whose queries name every schema; an SQL body that was parsed when it was made; C.
HANDS_OVER = r"""
(if 'pg_envelope' not in GD: plpy\.execute\('SELECT envelope_internal\.bootstrap\(\)'\)
)?(return )?GD\['pg_envelope'\](\.\w+)+\((?:[\w, ]*|\*args)\)
"""


# The event trigger leaves the search_path to the command. Views call the others in each statement of a reader.
QUALIFIED = (
    "envelope_internal.ddl_begins()",
    "envelope_internal.is_draft(envelope.ciphertext)",
    "envelope_internal.mask_of(uuid,name)",
    "envelope_internal.read_id()",
)
# They look like calls, and the search_path has nothing to do with them.
NO_CALLS = {"coalesce", "SELECT"}


def unqualified(body: str) -> list[str]:
    """Returns the functions, casts and operators of a body that have no schema."""
    code = re.sub(r"'[^']*'|OPERATOR\(pg_catalog\.[^)]+\)|:=|GET DIAGNOSTICS \w+ =", "", body)
    names = re.findall(r"([\w.]+)\(", code) + re.findall(r"::\s*([\w.]+)", code)
    bare = [name for name in names if "." not in name and name not in NO_CALLS]
    return bare + re.findall(r"[-+*/<>=~!@#%^&|`?]+", code)


@pytest.mark.parametrize("body", ["f(1)", "SELECT 1 = 2", "x::oid", "a.f(b || c)", "x OPERATOR(public.=) y"])
def test_what_is_unqualified_is_found(body: str) -> None:
    assert unqualified(body)


@pytest.fixture
def granted(people: Database) -> Database:
    people.sql("GRANT SELECT ON people TO alice")
    return people


def listing(db: Database) -> str:
    """One line for each object: what superuser, table owner, reader, stranger and PUBLIC may."""
    lines = [f"{kind} {name}: {_rights(db, kind, handle)}" for kind, name, handle in db.sql(f"{OBJECTS} ORDER BY 1, 2")]
    return "\n".join(lines) + "\n"


def _rights(db: Database, kind: str, handle: str) -> str:
    function, privileges = TESTS[kind]

    def allowed(role: str) -> str:
        return "+".join(right for right in privileges if db.one(f"SELECT {function}(%s, %s, %s)", role, handle, right))

    found = {label: rights for role, label in WHO.items() if (rights := allowed(role))}
    if len(found) == len(WHO) and len(set(found.values())) == 1:
        return f"everybody {found['PUBLIC']}"
    return ", ".join(f"{label} {rights}" for label, rights in found.items()) or "superuser only"


def golden(db: Database) -> str:
    """The golden list, as far as this version of PostgreSQL has it."""
    version = db.admin.info.server_version
    return "".join(line + "\n" for line in GOLDEN.read_text().splitlines() if SINCE.get(line, 0) <= version)


def test_privileges_are_the_golden_list(granted: Database) -> None:
    """After a change that was meant: PG_ENVELOPE_WRITE_GOLDEN=1 pytest this file, and read the difference."""
    found = listing(granted)
    if os.environ.get("PG_ENVELOPE_WRITE_GOLDEN"):
        newer = {line + "\n" for line, since in SINCE.items() if since > granted.admin.info.server_version}
        GOLDEN.write_text("".join(sorted({*found.splitlines(keepends=True), *newer}, key=str.strip)))
    assert found == golden(granted)


def test_default_privileges_do_not_reach_the_extension(make_db: Callable[[], Database]) -> None:
    """A database whose administrator gives every new object to a role gives it nothing of ours."""
    db = make_db()
    db.sql("DROP EXTENSION pg_envelope CASCADE")
    for kind in ("SCHEMAS", "TABLES", "SEQUENCES", "ROUTINES", "TYPES"):
        db.sql(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO bob, PUBLIC")
    db.sql("CREATE EXTENSION pg_envelope")
    db.sql("GRANT CREATE ON SCHEMA public TO owner")
    db.sql("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM bob, PUBLIC")
    make_people(db)
    db.sql("GRANT SELECT ON people TO alice")
    assert listing(db) == golden(db)


def test_default_privileges_do_not_reach_a_view(db: Database) -> None:
    db.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO bob")
    db.sql("CREATE TABLE people (id int PRIMARY KEY, email text); REVOKE ALL ON people FROM bob")
    db.sql("""CALL envelope.protect('people', '["email"]')""")
    for relation in ("people", "people_encrypted"):
        assert db.one("SELECT has_any_column_privilege('bob', %s, 'SELECT, INSERT, UPDATE')", relation) is False


def test_every_function_is_described_and_pinned(db: Database) -> None:
    functions = db.sql(FUNCTIONS)
    assert [name for name, _, _, _, comment, *_ in functions if not comment] == []
    loose = {name: body for name, _, pinned, body, *_ in functions if not pinned}
    # Statement triggers of one assignment, in which every name is qualified.
    noting = re.compile(
        r" DECLARE noted pg_catalog\.bool := envelope_internal\.note_update\(TG_RELID, '\w+'\); BEGIN RETURN NULL; END "
    )
    assert [name for name in QUALIFIED if unqualified(loose.pop(name))] == []
    assert [
        name for name, body in loose.items() if not (re.fullmatch(HANDS_OVER, body) or noting.fullmatch(body))
    ] == []


def test_security_definer_that_everybody_may_call_says_why(db: Database) -> None:
    """What administers is SECURITY DEFINER too, so that EXECUTE alone can be granted; PUBLIC may not call it."""
    public = {name: comment for name, definer, _, _, comment, *_ in db.sql(FUNCTIONS) if definer if may_call(db, name)}
    assert {"envelope_internal.bootstrap()", "envelope_internal.run_step(name)"} <= set(public)
    assert [name for name, comment in public.items() if "SECURITY DEFINER" not in comment] == []


def may_call(db: Database, function: str) -> bool:
    return bool(db.one("SELECT has_function_privilege('public', %s, 'EXECUTE')", function))


def test_what_decrypts_is_never_folded_into_a_plan(db: Database) -> None:
    volatility = {name: volatility for name, *_, volatility, _ in db.sql(FUNCTIONS)}
    assert {state for name, state in volatility.items() if re.match(r"envelope(_internal)?\.decrypt", name)} == {"s"}
    assert {state for name, state in volatility.items() if re.match(r"envelope(_internal)?\.encrypt", name)} == {"v"}
    assert not any(leakproof for *_, leakproof in db.sql(FUNCTIONS))
