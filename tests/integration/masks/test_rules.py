"""Which of several rules holds for a role, what mask() and unmask() refuse, and what becomes of rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.postgres import Cluster
from tests.fix_stack import Database
from tests.integration.operations.fix_clusters import run

from .fix_masks import CLEAR_EMAIL, failure

MEMBERS = 4
TEXTS = "SELECT envelope.mask('person', 'email', %s, 'text', jsonb_build_object('text', %s::text))"
READ = "SELECT email FROM person WHERE id = 1"


def expected(reader: int, members: dict[int, set[int]], rules: list[tuple[int, str]], public: str) -> str:
    """The documented order: a rule `clear` of a role that the reader has, its oldest rule, the one for public."""
    reached, waiting = {reader}, [reader]
    while waiting:
        more = members.get(waiting.pop(), set()) - reached
        reached |= more
        waiting += more
    own = [shown for role, shown in rules if role in reached]
    return "clear" if "clear" in own else (own or [public])[0]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.dictionaries(st.integers(0, MEMBERS - 1), st.sets(st.integers(0, MEMBERS - 1), max_size=2), max_size=4),
    rules=st.lists(
        st.tuples(st.integers(0, MEMBERS - 1), st.sampled_from(["clear", "a", "b"])),
        max_size=4,
        unique_by=lambda r: r[0],
    ),
    public=st.sampled_from(["clear", "p"]),
)
def test_which_rule_holds(
    masked: Database, group: list[str], members: dict[int, set[int]], rules: list[tuple[int, str]], public: str
) -> None:
    # A role is a member of those with higher numbers only: PostgreSQL has no circles.
    members = {role: {other for other in others if other > role} for role, others in members.items()}
    with masked.admin.transaction(force_rollback=True):
        masked.sql("SELECT envelope.unmask('person', 'email')")
        for role, others in members.items():
            for other in others:
                masked.sql(f"GRANT {group[other]} TO {group[role]}")
        for name, shown in [("public", public), *((group[role], shown) for role, shown in rules)]:
            if shown == "clear":
                masked.sql("SELECT envelope.mask('person', 'email', %s, 'clear')", name)
            else:
                masked.sql(TEXTS, name, f"{shown}@mask")
        for reader in range(MEMBERS):
            masked.sql(f"SET LOCAL ROLE {group[reader]}")
            shown = masked.one(READ)
            masked.sql("RESET ROLE")
            wanted = expected(reader, members, rules, public)
            assert shown == (CLEAR_EMAIL if wanted == "clear" else f"{wanted}@mask")


@pytest.fixture
def group(masked: Database, made_roles: Callable[..., list[str]]) -> list[str]:
    names = made_roles(MEMBERS)
    masked.sql(f"GRANT SELECT ON person TO {', '.join(names)}")
    return names


def test_a_member_that_does_not_inherit_sees_the_mask_until_set_role(
    masked: Database, made_roles: Callable[..., list[str]]
) -> None:
    (role,) = made_roles(1, "LOGIN NOINHERIT")
    masked.sql(f"GRANT SELECT ON person TO {role}; GRANT bob TO {role}")
    session = masked.connect(role)
    assert session.execute(READ).fetchall() == [("a***@example.org",)]
    session.execute("SET ROLE bob")
    assert session.execute(READ).fetchall() == [(CLEAR_EMAIL,)]
    session.close()


def test_who_may_act_as_the_owner_sees_values(masked: Database, made_roles: Callable[..., list[str]]) -> None:
    (role,) = made_roles(1)
    masked.sql(TEXTS, "owner", "mask@x")
    masked.sql(f"GRANT owner TO {role}")
    assert masked.sql(READ, user="owner") == masked.sql(READ, user=role) == masked.sql(READ) == [(CLEAR_EMAIL,)]
    masked.sql(f"REVOKE owner FROM {role}; GRANT SELECT ON person TO {role}")
    session = masked.connect(role)
    assert session.execute(READ).fetchall() == [("a***@example.org",)]
    session.close()


REFUSED = {
    "no such table": ("SELECT envelope.mask('pg_class', 'email', 'public', 'null')", "42704"),
    "no such column": ("SELECT envelope.mask('person', 'name', 'public', 'null')", "42704"),
    "no such role": ("SELECT envelope.mask('person', 'email', 'nobody at all', 'null')", "42704"),
    "no role": ("SELECT envelope.mask('person', 'email', NULL, 'null')", "42704"),
    "no such kind": ("SELECT envelope.mask('person', 'email', 'public', 'upper(email)')", "22023"),
    "no kind": ("SELECT envelope.mask('person', 'email', 'public', NULL)", "22023"),
    "kind of another type": ("SELECT envelope.mask('person', 'born', 'public', 'email')", "22023"),
    "constant of another type": (
        """SELECT envelope.mask('person', 'born', 'public', 'text', '{"text": "soon"}')""",
        "22007",
    ),
    "arguments that are a list": ("SELECT envelope.mask('person', 'email', 'public', 'email', '[]')", "22023"),
    "unknown argument": ("""SELECT envelope.mask('person', 'email', 'public', 'email', '{"sql": "x"}')""", "22023"),
    "no such secret": ("""SELECT envelope.mask('person', 'email', 'public', 'hash', '{"secret": "x"}')""", "42704"),
    "public before the last": ("SELECT envelope.unmask('person', 'email', 'public')", "55000"),
    "no such rule": ("SELECT envelope.unmask('person', 'email', 'alice')", "42704"),
    "plain table again": ("CALL envelope.unprotect('person')", "0A000"),
    "plain table again, online": ("CALL envelope.unprotect('person', online => true)", "0A000"),
    "client": ("SELECT envelope.grant_client('person', 'email', 'bob')", "55000"),
    "search": ("CALL envelope.add_search('person', 'email')", "0A000"),
}


def test_what_is_refused_changes_nothing(masked: Database, alice: psycopg.Connection[Any]) -> None:
    before = masked.sql("TABLE envelope.masks")
    for name, (statement, sqlstate) in REFUSED.items():
        error = failure(masked.admin, statement)
        assert error.sqlstate == sqlstate, (name, str(error))
    assert masked.sql("TABLE envelope.masks") == before
    assert alice.execute(READ).fetchall() == [("a***@example.org",)]


def test_the_first_rule_is_for_public(masked: Database, alice: psycopg.Connection[Any]) -> None:
    masked.sql("SELECT envelope.unmask('person', 'email')")
    assert failure(masked.admin, "SELECT envelope.mask('person', 'email', 'alice', 'email')").sqlstate == "55000"
    assert alice.execute(READ).fetchall() == [(CLEAR_EMAIL,)]
    masked.sql("SELECT envelope.mask('person', 'email', 'public', 'clear')")
    masked.sql("SELECT envelope.mask('person', 'email', 'alice', 'email')")
    assert alice.execute(READ).fetchall() == [("a***@example.org",)]
    masked.sql(
        "SELECT envelope.unmask('person', 'email', 'alice'); SELECT envelope.unmask('person', 'email', 'public')"
    )
    assert masked.sql("SELECT kind FROM envelope.masks WHERE \"column\" = 'email'") == []
    for column in ("email", "ssn", "born", "paid", "seen", "photo"):
        if column != "email":
            masked.sql("SELECT envelope.unmask('person', %s)", column)
    masked.sql("CALL envelope.unprotect('person')")
    assert alice.execute(READ).fetchall() == [(CLEAR_EMAIL,)]


def test_only_a_superuser_sets_rules(masked: Database) -> None:
    masked.sql("GRANT EXECUTE ON FUNCTION envelope.mask, envelope.unmask TO owner")
    owner = masked.connect("owner")
    for statement in (
        "SELECT envelope.mask('person', 'email', 'alice', 'clear')",
        "SELECT envelope.unmask('person', 'email')",
    ):
        assert failure(owner, statement).sqlstate == "42501"


def test_no_clients_of_a_masked_column_and_no_mask_of_a_client_s(masked: Database) -> None:
    masked.sql("SELECT envelope.unmask('person', 'email'); SELECT envelope.grant_client('person', 'email', 'bob')")
    refused = failure(masked.admin, "SELECT envelope.mask('person', 'email', 'public', 'email')")
    assert (refused.sqlstate, refused.diag.message_detail) == ("55000", "bob")
    masked.sql("SELECT envelope.revoke_client('person', 'email', 'bob')")
    masked.sql("SELECT envelope.mask('person', 'email', 'public', 'email')")


def test_a_search_column_is_allowed_by_name_only(masked: Database, alice: psycopg.Connection[Any]) -> None:
    masked.sql("SELECT envelope.unmask('person', 'email')")
    masked.sql("CALL envelope.add_search('person', 'email')")
    refused = failure(masked.admin, "SELECT envelope.mask('person', 'email', 'public', 'email')")
    assert (refused.sqlstate, refused.diag.message_detail) == ("55000", "search columns: email_search")
    masked.sql("SELECT envelope.mask('person', 'email', 'public', 'clear')")
    masked.sql("""SELECT envelope.mask('person', 'email', 'alice', 'email', '{"search": true}')""")
    found = f"SELECT email FROM person WHERE email_search = '{CLEAR_EMAIL}'"
    assert alice.execute(found).fetchall() == [("a***@example.org",)]
    alice.execute("UPDATE person SET email = email, name = 'x' WHERE id = 1")
    assert alice.execute(found).fetchall() == [("a***@example.org",)]
    alice.execute("UPDATE person SET email = 'new@example.org' WHERE id = 1")
    assert alice.execute("SELECT id FROM person WHERE email_search = 'new@example.org'").fetchall() == [(1,)]


def test_a_hash_is_the_same_in_two_columns_and_after_a_rotation(
    masked: Database, alice: psycopg.Connection[Any]
) -> None:
    masked.sql("SELECT envelope.create_secret('pseudonyms')")
    for column in ("email", "ssn"):
        masked.sql("""SELECT envelope.mask('person', %s, 'public', 'hash', '{"secret": "pseudonyms"}')""", column)
    masked.sql("UPDATE person SET email = 'x@y.z', ssn = 'x@y.z' WHERE id IN (1, 2)")
    read = "SELECT email, ssn FROM person WHERE id < 3"
    (one, other) = alice.execute(read).fetchall()
    assert one == other
    assert one[0].startswith(one[1])
    masked.sql("SELECT envelope.rotate('person')")
    masked.sql("CALL envelope.reencrypt('person')")
    masked.sql("SELECT envelope.replace_secret('pseudonyms')")
    assert alice.execute(read).fetchall() == [one, one]
    masked.sql("""SELECT envelope.mask('person', 'email', 'public', 'hash', '{"secret": "pseudonyms"}')""")
    assert alice.execute(read).fetchall()[0][0] != one[0]
    masked.sql("SELECT envelope.import_secret('short', 'too short')")
    weak = """SELECT envelope.mask('person', 'email', 'public', 'hash', '{"secret": "short"}')"""
    assert failure(masked.admin, weak).sqlstate == "22023"


def test_noise_of_a_stored_amount(masked: Database, alice: psycopg.Connection[Any]) -> None:
    masked.sql("SELECT envelope.create_secret('noise')")
    masked.sql("""SELECT envelope.mask('person', 'paid', 'public', 'noise', '{"secret": "noise", "spread": 100}')""")
    read = "SELECT paid FROM person WHERE paid IS NOT NULL ORDER BY id"
    shown, stored = alice.execute(read).fetchall(), masked.sql(read)
    assert shown != stored
    assert all(abs(one[0] - other[0]) <= 100 for one, other in zip(shown, stored, strict=True))
    assert alice.execute(read).fetchall() == shown


def test_restore(
    masked: Database,
    alice: psycopg.Connection[Any],
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """A dump has the rules, and none of dropped roles."""
    gone = "role_that_goes"
    masked.sql(f"CREATE ROLE {gone}; SELECT envelope.mask('person', 'email', '{gone}', 'clear'); DROP ROLE {gone}")
    assert alice.execute(READ).fetchall() == [("a***@example.org",)]
    rules = "SELECT role, kind FROM envelope.masks WHERE \"column\" = 'email' ORDER BY 1"
    assert [role.isdigit() for role, _ in masked.sql(rules)] == [True, False, False]
    run(masked.stack.cluster, masked.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    masked.sql("SELECT envelope.unmask('person', 'email', %s::name)", masked.sql(rules)[0][0])
    assert masked.sql(rules) == [("bob", "clear"), ("public", "email")]
    name = empty_database("masked")
    run(other_cluster, name, "pg_restore", "--jobs=2", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as connection:
        assert connection.execute(rules).fetchall() == [("bob", "clear"), ("public", "email")]
        connection.execute("SELECT envelope.this_is_the_original()")
    for role, shown in (("alice", "a***@example.org"), ("bob", CLEAR_EMAIL), ("owner", CLEAR_EMAIL)):
        with other_cluster.connect(name, role) as connection:
            assert connection.execute(READ).fetchall() == [(shown,)]


def test_status_tells_of_a_view_that_differs_from_the_rules(masked: Database) -> None:
    masked.sql("CALL envelope.set_audit('person', 'email', 'statement')")
    told = "SELECT state, detail FROM envelope.status() WHERE check_name = 'masks'"
    assert masked.sql(told)[0][0] == "ok"
    with masked.admin.transaction(force_rollback=True):
        masked.sql("DELETE FROM envelope_private.mask WHERE kind = 'email' OR kind = 'null'")
        masked.sql(
            "DELETE FROM envelope_private.mask m USING envelope.columns c"
            " WHERE c.field_uuid = m.field_uuid AND c.column IN ('email', 'photo')"
        )
        ((state, detail),) = masked.sql(told)
        assert (state, detail.split(": ")[1]) == ("failed", "public.person.email, public.person.photo")
        masked.sql("CALL envelope.refresh('person')")
        assert masked.sql(told)[0][0] == "ok"
    rules = masked.sql("CREATE TABLE kept AS SELECT * FROM envelope_private.mask; DELETE FROM envelope_private.mask")
    assert rules == []
    masked.sql("CALL envelope.refresh('person'); INSERT INTO envelope_private.mask TABLE kept")
    assert masked.sql(told)[0][0] == "failed"
    masked.sql("CALL envelope.refresh('person')")
    assert masked.sql(told)[0][0] == "ok"


def test_a_dropped_table_leaves_no_rule_in_the_view(masked: Database) -> None:
    masked.sql("DROP TABLE person_encrypted CASCADE")
    assert masked.sql("TABLE envelope.masks") == []


def test_a_roll_out_has_no_masks(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('person', '["email"]', online => true)""")
    db.sql("SELECT envelope.mask('person', 'email', 'public', 'email')")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="online") as caught:
        db.sql("CALL envelope.unprotect('person', online => true)")
    assert "has masks" in str(caught.value.diag.message_detail)


def test_a_domain_with_constraints_takes_constants_that_fit(db: Database) -> None:
    db.sql("CREATE DOMAIN mail AS text NOT NULL CHECK (VALUE LIKE '%@%')")
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email mail); INSERT INTO person VALUES (1, 'a@b.c')")
    db.sql("""CALL envelope.protect('person', '["email"]'); GRANT SELECT ON person TO alice""")
    masking: list[tuple[str, Any, str]] = [
        ("email", "{}", "22023"),
        ("null", "{}", "23502"),
        ("text", '{"text": "no address"}', "23514"),
    ]
    for kind, arguments, sqlstate in masking:
        refused = failure(db.admin, f"SELECT envelope.mask('person', 'email', 'public', '{kind}', '{arguments}')")
        assert refused.sqlstate == sqlstate, str(refused)
    db.sql("""SELECT envelope.mask('person', 'email', 'public', 'text', '{"text": "no@address"}')""")
    assert db.sql("SELECT email FROM person", user="alice") == [("no@address",)]


def test_no_masks_with_an_upsert_relation(masked: Database) -> None:
    """A CHECK that its writes must meet would look at the writer's mask."""
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        masked.sql("CALL envelope.allow_upsert('person')")
    assert "column email has masks" in str(caught.value.diag.message_detail)
    masked.sql("SELECT envelope.unmask('person', 'email')")
    for (name,) in masked.sql('SELECT DISTINCT "column" FROM envelope.masks'):
        masked.sql("SELECT envelope.unmask('person', %s)", name)
    masked.sql("CALL envelope.allow_upsert('person')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="has an upsert relation"):
        masked.sql(TEXTS, "public", "x")
