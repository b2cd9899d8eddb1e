"""envelope.access(): each path by name, what it cannot be made to do, and the whole against trying everything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database

from .fix_access import EMAIL, MASK, MEMBERS, PHONE, matrix

LEVELS = ("clear", "masked", "search only", "none")
NUMBERS = st.integers(0, MEMBERS - 1)
GRANTS = ("SELECT", "SELECT (email)", "SELECT (phone)", "SELECT (email_search)", "SELECT (id)")
READS = {
    "email": ("SELECT email FROM customer WHERE email IS NOT NULL", "SELECT v FROM v_email", "SELECT f_email()"),
    "phone": ("SELECT phone FROM customer WHERE phone IS NOT NULL", "SELECT v FROM v_phone", "SELECT f_phone()"),
}
SEARCH = "SELECT FROM customer WHERE email_search IS NOT NULL"


def test_each_path_has_its_name(shop: Database, group: list[str], made_roles: Callable[..., list[str]]) -> None:
    granted, member, becomes, viewer = group
    (reads_all,) = made_roles(1, "LOGIN IN ROLE pg_read_all_data")
    (bypasses,) = made_roles(1, "LOGIN BYPASSRLS")
    (acts,) = made_roles(1, "LOGIN IN ROLE owner")
    shop.sql(f"GRANT SELECT ON customer TO {granted}, {bypasses}; GRANT {granted} TO {member}, {becomes}")
    shop.sql(f"ALTER ROLE {becomes} NOINHERIT; GRANT CREATE ON SCHEMA public TO {granted}")
    shop.sql("CREATE VIEW mails AS SELECT email FROM customer", user=granted)
    shop.sql(f"GRANT SELECT ON mails TO {viewer}", user=granted)
    shop.sql(
        "CREATE FUNCTION phones() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT phone FROM customer'",
        user="owner",
    )
    shop.sql(
        f"REVOKE ALL ON FUNCTION phones() FROM public; GRANT EXECUTE ON FUNCTION phones() TO {viewer}", user="owner"
    )
    shop.sql(f"GRANT SELECT (email_search) ON customer TO {viewer}")
    found = matrix(shop)
    assert found["postgres", "phone"]["paths"] == ["superuser"]
    assert found["owner", "phone"]["paths"] == ["owner"]
    assert found[granted, "phone"]["paths"] == ["grant"]
    assert found[granted, "phone"]["access"] == "masked"
    assert found[member, "email"]["paths"] == [f"member of {granted}", "view public.mails"]
    assert found[becomes, "email"]["paths"] == [f"SET ROLE {granted}"]
    assert (found[becomes, "email"]["direct"], found[becomes, "email"]["access"]) == ("none", "clear")
    assert found[viewer, "email"]["paths"] == ["search column", "view public.mails"]
    assert (found[viewer, "email"]["direct"], found[viewer, "email"]["access"]) == ("search only", "clear")
    assert found[viewer, "phone"]["paths"] == ["function public.phones()"]
    assert found[viewer, "phone"]["access"] == "clear"
    assert found[reads_all, "email"]["paths"] == ["pg_read_all_data", "view public.mails"]
    assert found[acts, "phone"]["paths"] == ["member of the owner", "function public.phones()"]
    assert "BYPASSRLS" not in str(found[bypasses, "email"]["paths"])
    assert found["alice", "email"] == {
        "access": "none", "paths": [], "direct": "none", "proved": "none", "finding": None
    }  # fmt: skip
    assert [row["finding"] for row in found.values() if row["finding"]] == []
    shop.sql(
        "ALTER TABLE customer_encrypted ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON customer_encrypted USING (id > 1)"
    )
    shop.sql("CALL envelope.refresh('customer')")
    found = matrix(shop)
    assert found[bypasses, "email"]["paths"] == ["grant", "BYPASSRLS"]
    assert (found[bypasses, "email"]["proved"], found[granted, "email"]["proved"]) == ("clear", "no value")


def test_a_copy_shows_what_who_refreshes_it_sees(shop: Database) -> None:
    shop.sql("GRANT CREATE ON SCHEMA public TO alice; GRANT SELECT ON customer TO alice")
    for role in ("owner", "alice"):
        shop.sql(f"CREATE MATERIALIZED VIEW copy_of_{role} AS SELECT phone FROM customer", user=role)
        shop.sql(f"GRANT SELECT ON copy_of_{role} TO bob", user=role)
    found = matrix(shop)["bob", "phone"]
    assert found["paths"] == ["materialized view public.copy_of_alice", "materialized view public.copy_of_owner"]
    assert (found["direct"], found["access"]) == ("none", "clear")
    shop.sql("DROP MATERIALIZED VIEW copy_of_owner")
    assert matrix(shop)["bob", "phone"]["access"] == "masked"


def test_a_difference_is_a_finding(shop: Database) -> None:
    """A view that somebody replaced by hand, so that it shows values to who should see masks."""
    shop.sql("GRANT SELECT ON customer TO alice")
    assert matrix(shop)["alice", "phone"]["finding"] is None
    text = shop.one("SELECT pg_get_viewdef('customer'::regclass)")
    unmasked = text.replace("decrypt_text_masked", "decrypt_text")
    unmasked = re.sub(r"\((r\.\S+) \|\| uuid_send\(envelope_internal\.mask_of\([^)]*\)\)\)", r"\1", unmasked)
    shop.sql(f"CREATE OR REPLACE VIEW customer AS {unmasked}")
    found = matrix(shop)["alice", "phone"]
    assert (found["direct"], found["proved"]) == ("masked", "clear")
    assert found["finding"] == "computed masked, proved clear"
    assert matrix(shop, proof=False)["alice", "phone"]["proved"] is None


TROJAN = """
CREATE FUNCTION become() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('role', 'none', false); EXECUTE 'ALTER ROLE owner SUPERUSER'; RETURN true;
EXCEPTION WHEN OTHERS THEN RETURN true; END $$;
CREATE DOMAIN mail AS text CHECK (become());
CREATE TABLE trap (id int PRIMARY KEY, email mail);
INSERT INTO trap VALUES (1, 'a@b.c');
"""


def test_no_code_that_a_proof_meets_becomes_the_superuser(shop: Database) -> None:
    owner = shop.connect("owner")
    owner.execute(TROJAN)
    shop.sql("""CALL envelope.protect('trap', '["email"]')""")
    owner.execute("GRANT SELECT ON trap TO alice")
    session = shop.connect()
    before = session.execute("SELECT current_user, current_setting('search_path')").fetchall()
    rows = session.execute("SELECT proved FROM envelope.access() WHERE relation = 'trap'::regclass").fetchall()
    assert {"clear", "none"} <= {proved for (proved,) in rows}
    assert session.execute("SELECT current_user, current_setting('search_path')").fetchall() == before
    assert not shop.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'")


def test_it_is_for_superusers(shop: Database) -> None:
    shop.sql("GRANT EXECUTE ON FUNCTION envelope.access TO owner")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shop.sql("SELECT * FROM envelope.access()", user="owner")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.sets(st.tuples(NUMBERS, NUMBERS), max_size=4),
    lone=st.sets(NUMBERS, max_size=2),
    grants=st.lists(st.tuples(st.sampled_from(GRANTS), st.integers(-1, MEMBERS - 1)), max_size=4),
    clear=st.sets(NUMBERS, max_size=2),
    makers=st.dictionaries(st.sampled_from(["v_email", "v_phone", "f_email", "f_phone"]), NUMBERS, max_size=3),
    users=st.sets(NUMBERS, max_size=2),
)
def test_it_says_what_trying_everything_finds(
    shop: Database,
    group: list[str],
    members: set[tuple[int, int]],
    lone: set[int],
    grants: list[tuple[str, int]],
    clear: set[int],
    makers: dict[str, int],
    users: set[int],
) -> None:
    with shop.admin.transaction(force_rollback=True):
        for role in lone:
            shop.sql(f"ALTER ROLE {group[role]} NOINHERIT")
        for low, high in {(min(pair), max(pair)) for pair in members if pair[0] != pair[1]}:
            shop.sql(f"GRANT {group[high]} TO {group[low]}")
        for privilege, grantee in grants:
            shop.sql(f"GRANT {privilege} ON customer TO {'PUBLIC' if grantee < 0 else group[grantee]}")
        for role in clear:
            shop.sql("SELECT envelope.mask('customer', 'phone', %s, 'clear')", group[role])
        for name, maker in makers.items():
            make(shop, name, group[maker], [group[user] for user in users])
        found = matrix(shop)
        for role in group:
            for column, reads in READS.items():
                row = found[role, column]
                assert row["finding"] is None
                assert row["direct"] == tried(shop, [role], reads[:1], column)
                become = [other for other in group if may_become(shop, role, other)]
                assert row["access"] == tried(shop, become, reads, column)


def make(db: Database, name: str, maker: str, users: list[str]) -> None:
    column, is_view = name[2:], name.startswith("v")
    what = f"VIEW {name} AS SELECT {column} AS v FROM customer"
    if not is_view:
        body = f"SELECT {column} FROM customer WHERE id = 1"
        what = f"FUNCTION {name}() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN ({body}); END'"
    db.sql(f"CREATE {what}")
    called = f"{name}" if is_view else f"FUNCTION {name}()"
    db.sql(f"ALTER {'VIEW' if is_view else 'FUNCTION'} {called.removeprefix('FUNCTION ')} OWNER TO {maker}")
    db.sql(f"REVOKE ALL ON {called} FROM public")
    for user in users:
        db.sql(f"GRANT {'SELECT' if is_view else 'EXECUTE'} ON {called} TO {user}")


def may_become(db: Database, role: str, other: str) -> bool:
    how = "SET" if db.admin.info.server_version >= 160000 else "MEMBER"
    return bool(db.one("SELECT pg_has_role(%s, %s, %s)", role, other, how))


def tried(db: Database, roles: list[str], reads: tuple[str, ...], column: str) -> str:
    """The most that one of the roles gets by one of the statements."""
    got = [level(outcome(db, role, read)) for role in roles for read in reads]
    if column == "email":
        got += ["search only" for role in roles if outcome(db, role, SEARCH) != "42501"]
    return min(got, key=LEVELS.index)


def outcome(db: Database, role: str, statement: str) -> Any:
    try:
        with db.admin.transaction():
            db.sql(f"SET LOCAL ROLE {role}")
            rows = db.sql(statement)
            db.sql("RESET ROLE")
            return rows
    except psycopg.Error as error:
        return error.sqlstate


def level(found: Any) -> str:
    values = {value for row in found for value in row} if isinstance(found, list) else set()
    return "clear" if values & {EMAIL, PHONE} else "masked" if MASK in values else "none"
