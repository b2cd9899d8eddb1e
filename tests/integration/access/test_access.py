"""envelope.access(): each path by name, what it cannot be made to do, and the whole against trying everything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_envelope_client.evidence import facts
from tests.fix_stack import Database

from .fix_access import EMAIL, MASK, MEMBERS, PHONE, matrix, outcome

LEVELS = ("clear", "masked", "search only", "none")
NUMBERS = st.integers(0, MEMBERS - 1)
GRANTS = ("SELECT", "SELECT (email)", "SELECT (phone)", "SELECT (email_search)", "SELECT (id)")
# By letter what a maker makes over the table or over what came before it, with the column in the place of {}.
MADE = {
    "f": "",
    "v": "VIEW {} AS SELECT {c} AS v FROM customer",
    "w": "VIEW {} AS SELECT to_jsonb(c) ->> '{c}' AS v FROM customer c",
    "i": "VIEW {} WITH (security_invoker = yes) AS SELECT {c} AS v FROM customer",
    "m": "MATERIALIZED VIEW {} AS SELECT v FROM {below} WITH NO DATA",
    "n": "MATERIALIZED VIEW {} AS SELECT {c} AS v FROM customer WITH NO DATA",
    "o": "VIEW {} AS SELECT v FROM {below}",
    "p": "VIEW {} WITH (security_invoker) AS SELECT v FROM {below}",
}
READS = {
    column: (
        f"SELECT {column} FROM customer WHERE {column} IS NOT NULL",
        f"SELECT f_{column}()",
        *(f"SELECT v FROM {letter}_{column}" for letter in MADE if letter != "f"),
    )
    for column in ("email", "phone")
}
SEARCH = "SELECT FROM customer WHERE email_search IS NOT NULL"


def test_each_path_has_its_name(shop: Database, group: list[str], made_roles: Callable[..., list[str]]) -> None:
    granted, member, becomes, viewer = group
    (reads_all,) = made_roles(1, "LOGIN IN ROLE pg_read_all_data")
    (bypasses,) = made_roles(1, "LOGIN BYPASSRLS")
    (acts,) = made_roles(1, "LOGIN IN ROLE owner")
    # Since PostgreSQL 16 a membership keeps what the role was when it was granted.
    shop.sql(f"ALTER ROLE {becomes} NOINHERIT; GRANT CREATE ON SCHEMA public TO {granted}")
    shop.sql(f"GRANT SELECT ON customer TO {granted}, {bypasses}; GRANT {granted} TO {member}, {becomes}")
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


WHOLE = "to_jsonb(c) ->> 'phone' AS v FROM customer c"
# By name: statements of the owner, after which bob may read `last`, and what bob gets by which paths.
CHAINS = {
    "a whole row": (f"CREATE VIEW last AS SELECT {WHOLE}", "masked", ["view public.last"]),
    "a whole row of some columns": (
        "CREATE VIEW last AS SELECT c.id, row_to_json(c) ->> 'phone' AS v FROM customer c",
        "masked", ["view public.last"],
    ),
    "a copy of whole rows": (
        f"CREATE MATERIALIZED VIEW last AS SELECT {WHOLE}", "clear", ["materialized view public.last"]
    ),
    "a view over a copy": (
        "CREATE MATERIALIZED VIEW first AS SELECT phone AS v FROM customer; CREATE VIEW last AS SELECT v FROM first",
        "clear", ["view public.last"],
    ),
    "a view over a view over a copy": (
        "CREATE MATERIALIZED VIEW first AS SELECT phone AS v FROM customer; CREATE VIEW second AS SELECT v FROM first;"
        " CREATE VIEW last AS SELECT v FROM second", "clear", ["view public.last"],
    ),
    "a copy over a view": (
        "CREATE VIEW first AS SELECT phone AS v FROM customer;"
        " CREATE MATERIALIZED VIEW last AS SELECT v FROM first", "clear", ["materialized view public.last"],
    ),
    "a copy over a view of its user": (
        "CREATE VIEW first WITH (security_invoker) AS SELECT phone AS v FROM customer;"
        " CREATE MATERIALIZED VIEW last AS SELECT v FROM first", "clear", ["materialized view public.last"],
    ),
    "a copy of somebody who reads by a view": (
        "CREATE VIEW first AS SELECT phone AS v FROM customer; GRANT SELECT ON first TO alice; RESET ROLE;"
        " SET ROLE alice; CREATE MATERIALIZED VIEW last AS SELECT v FROM first",
        "masked", ["materialized view public.last"],
    ),
    "a copy of somebody who may read no more": (
        "RESET ROLE; SELECT envelope.mask('customer', 'phone', 'alice', 'clear'); GRANT SELECT ON customer TO alice;"
        " SET ROLE alice; CREATE MATERIALIZED VIEW last AS SELECT phone AS v FROM customer; RESET ROLE;"
        " REVOKE SELECT ON customer FROM alice; SELECT envelope.unmask('customer', 'phone', 'alice'); SET ROLE alice",
        "clear", ["materialized view public.last"],
    ),
    "a copy and a mask": (
        "CREATE MATERIALIZED VIEW first AS SELECT phone AS v FROM customer;"
        " CREATE VIEW last AS SELECT v FROM first UNION ALL SELECT phone FROM customer", "clear", ["view public.last"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_views_and_copies(shop: Database, bob: psycopg.Connection[Any], name: str) -> None:
    statements, access, paths = CHAINS[name]
    shop.sql("GRANT CREATE ON SCHEMA public TO alice, owner")
    with shop.connect() as session:
        session.execute(f"SET ROLE owner; {statements}; GRANT SELECT ON last TO bob; RESET ROLE")
    found = matrix(shop)["bob", "phone"]
    assert level(bob.execute("SELECT v FROM last").fetchall()) == access
    assert (found["access"], found["paths"], found["direct"]) == (access, paths, "none")


@pytest.mark.parametrize("value", ["true", "on", "1", "yes", "t", "y", "TRUE", "On", "YES", "tru"])
def test_a_view_with_the_rights_of_its_user_is_no_path(
    shop: Database, bob: psycopg.Connection[Any], value: str
) -> None:
    """However its option is written."""
    for table in ("customer", "note"):
        if table == "note":
            shop.sql("CREATE TABLE note (id int PRIMARY KEY, email text); INSERT INTO note VALUES (1, 'x')")
            shop.sql("ALTER TABLE note ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON note USING (true)")
            shop.sql("""CALL envelope.protect('note', '["email"]')""")
        name = f"{table}_mails"
        shop.sql(f"CREATE VIEW {name} WITH (security_invoker = {value}) AS SELECT email FROM {table}")
        shop.sql(f"GRANT SELECT ON {name} TO bob")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute(f"TABLE {name}")
    rows = shop.sql("SELECT access, paths FROM envelope.access() WHERE role = 'bob'")
    assert rows == [("none", [])] * 3
    through = "SELECT envelope_private.reads_through_view('bob'::regrole, 'note'::regclass, 'email')"
    assert shop.one(through) is False
    shop.sql("ALTER VIEW note_mails SET (security_invoker = off)")
    assert shop.one(through) is True


def test_a_schema_without_usage_keeps_no_view_of_the_user_out(shop: Database, bob: psycopg.Connection[Any]) -> None:
    """The query of a view has no names any more, so nobody asks for the right to the schema."""
    shop.sql("CREATE SCHEMA closed; CREATE TABLE closed.person (id int PRIMARY KEY, email text)")
    shop.sql(f"INSERT INTO closed.person VALUES (1, '{EMAIL}')")
    shop.sql("""CALL envelope.protect('closed.person', '["email"]'); GRANT SELECT ON closed.person TO bob""")
    shop.sql("CREATE VIEW mails WITH (security_invoker) AS SELECT email FROM closed.person")
    shop.sql("GRANT SELECT ON mails TO bob")
    assert level(bob.execute("TABLE mails").fetchall()) == "clear"
    rows = shop.sql(
        "SELECT access, paths, direct FROM envelope.access()"
        " WHERE role = 'bob' AND relation = 'closed.person'::regclass"
    )
    assert rows == [("clear", ["view public.mails"], "none")]


def test_the_fact_of_readers_has_who_reads_whole_rows_and_copies(shop: Database) -> None:
    assert readers(shop) == {"owner"}
    shop.sql("CREATE VIEW rows AS SELECT to_jsonb(c) FROM customer c; GRANT SELECT ON rows TO bob")
    shop.sql("CREATE MATERIALIZED VIEW copy AS SELECT phone FROM customer")
    shop.sql("CREATE VIEW phones AS SELECT phone FROM copy")
    shop.sql("GRANT SELECT ON phones TO alice")
    assert readers(shop) == {"owner", "alice", "bob"}


def readers(db: Database) -> set[str]:
    value, _ = db.admin.execute(facts.statement_of(facts.declared()["readers"])).fetchone()  # type: ignore[call-overload, misc]
    return set(value.split(", "))


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
    makers=st.lists(st.tuples(st.sampled_from([*MADE]), NUMBERS), max_size=5, unique_by=lambda made: made[0]),
    users=st.sets(NUMBERS, max_size=2),
)
def test_it_says_what_trying_everything_finds(
    shop: Database,
    group: list[str],
    members: set[tuple[int, int]],
    lone: set[int],
    grants: list[tuple[str, int]],
    clear: set[int],
    makers: list[tuple[str, int]],
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
        for column in READS:
            below = f"(SELECT {column} AS v FROM customer) c"
            for letter, maker in makers:
                name = f"{letter}_{column}"
                make(shop, name, below, group[maker], [group[user] for user in users])
                below = below if letter == "f" else name
        found = matrix(shop)
        for column, reads in READS.items():
            alone = {role: [tried(shop, role, read, column) for read in (*reads, SEARCH)] for role in group}
            for role in group:
                row = found[role, column]
                assert row["finding"] is None
                assert row["direct"] == most([alone[role][0], alone[role][-1]])
                become = [other for other in group if may_become(shop, role, other)]
                assert row["access"] == most([got for other in become for got in alone[other]])


def make(db: Database, name: str, below: str, maker: str, users: list[str]) -> None:
    letter, _, column = name.partition("_")
    kind, _, _ = MADE[letter].partition(" {}")
    what, called = MADE[letter].format(name, c=column, below=below), f"{kind} {name}"
    if letter == "f":
        body, called = f"SELECT {column} FROM customer WHERE id = 1", f"FUNCTION {name}()"
        what = f"{called} RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN ({body}); END'"
    db.sql(f"CREATE {what}")
    db.sql(f"ALTER {called} OWNER TO {maker}")
    granted = f"ALL ON {called if letter == 'f' else name}"
    db.sql(f"REVOKE {granted} FROM public")
    if kind.startswith("MAT"):
        outcome(db, maker, f"REFRESH {called}")
    for user in users:
        db.sql(f"GRANT {granted} TO {user}")


def may_become(db: Database, role: str, other: str) -> bool:
    how = "SET" if db.admin.info.server_version >= 160000 else "MEMBER"
    return bool(db.one("SELECT pg_has_role(%s, %s, %s)", role, other, how))


def tried(db: Database, role: str, statement: str, column: str) -> str:
    found = outcome(db, role, statement)
    if statement == SEARCH:
        return "search only" if column == "email" and found != "42501" else "none"
    return level(found)


def most(got: list[str]) -> str:
    return min(got, key=LEVELS.index)


def level(found: Any) -> str:
    text = str(found) if isinstance(found, list) else ""
    return "clear" if EMAIL in text or PHONE in text else "masked" if MASK in text else "none"
