"""Attacks on masks, each named after what it tries. None may show a role a value of which it sees a mask."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command

from .fix_masks import CLEAR_EMAIL, MARK, failure

Connection = psycopg.Connection[Any]
LEAK = """
CREATE FUNCTION {name}({arguments}) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
    $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
"""
ATTACKS = {
    "cheap function in a condition": LEAK.format(name="leak", arguments="text")
    + "SELECT 1 FROM person WHERE leak(email) AND leak(ssn)",
    "cheap operator in a condition": LEAK.format(name="leak2", arguments="text, text")
    + "CREATE OPERATOR <<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = leak2);"
    "SELECT 1 FROM person WHERE email <<<< 'x'",
    "cast that fails": "SELECT ssn::date FROM person",
    "division by the amount": "SELECT 1 / (paid - paid) FROM person",
    "regular expression that fails": "SELECT 'x' ~ ('(' || email) FROM person",
    "json path": "SELECT jsonb_path_query(to_jsonb(p), '$.*') FROM person p",
    "explain analyze": "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM person WHERE email LIKE 'ada%' AND ssn = 'x'",
    "generic plan": "SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT * FROM person; EXECUTE p",
    "statistics": "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename ~ 'person'",
    "search_path with another pg_has_role": "CREATE FUNCTION public.pg_has_role(oid, oid, text) RETURNS bool"
    " LANGUAGE sql AS 'SELECT true'; CREATE FUNCTION public.pg_has_role(oid, regrole, text) RETURNS bool"
    " LANGUAGE sql AS 'SELECT true'; SET search_path = public, pg_catalog; SELECT * FROM person",
    "operators of the attacker": "CREATE FUNCTION public.eq(regrole, oid) RETURNS bool LANGUAGE sql AS 'SELECT true';"
    " CREATE OPERATOR public.= (LEFTARG = regrole, RIGHTARG = oid, FUNCTION = public.eq);"
    " SET search_path = public, pg_catalog; SELECT * FROM person",
    "view over the view": "CREATE VIEW mine AS SELECT * FROM person; SELECT * FROM mine",
    "security_invoker view": "CREATE VIEW mine WITH (security_invoker) AS SELECT * FROM person; SELECT * FROM mine",
    "own SECURITY DEFINER function": "CREATE FUNCTION mine() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS"
    " 'SELECT email || ssn FROM person'; SELECT mine()",
    "table function": "CREATE FUNCTION mine() RETURNS SETOF person LANGUAGE sql AS 'TABLE person'; SELECT mine()",
    "copied table": "CREATE TEMP TABLE t AS TABLE person; TABLE t",
    "insert into the same table": "INSERT INTO person SELECT id + 100, name, email, ssn FROM person; TABLE person",
    "update of a column in the clear": "UPDATE person SET name = email; SELECT name FROM person",
    "update returning": "UPDATE person SET name = 'x' RETURNING *",
    "update that fails in a CHECK": "UPDATE person SET email = replace(email, '@', '')",
    "update of the key": "UPDATE person SET id = id + 1000 RETURNING *",
    "delete returning": "DELETE FROM person RETURNING *",
    "cursor held over the commit": "BEGIN; DECLARE c CURSOR WITH HOLD FOR TABLE person; COMMIT; FETCH ALL FROM c",
    "locked rows": "SELECT * FROM person FOR UPDATE",
    "system columns": "SELECT tableoid, ssn FROM person",
    "sort to disk": "SET work_mem = '64kB'; SELECT p.email FROM person p, generate_series(1, 500) ORDER BY 1 LIMIT 1",
    "error in a loop": "DO $$ DECLARE r record; BEGIN FOR r IN TABLE person LOOP RAISE WARNING '%', r; END LOOP;"
    " END $$",
    "domain over the value": "CREATE DOMAIN short AS text CHECK (length(VALUE) < 3); SELECT email::short FROM person",
    "lock on the base table": "SELECT * FROM person_encrypted",
    "token without a rule": "SELECT envelope_internal.decrypt_text_masked("
    "'\\xe101' || repeat('a', 60)::bytea, '\\x00', '1')",
    "the rules": "SELECT * FROM envelope_private.mask",
    "SET ROLE of who sees values": "SET ROLE bob; SELECT * FROM person",
    "session authorization": "SET SESSION AUTHORIZATION bob; SELECT * FROM person",
    "own rule": "SELECT envelope.mask('person', 'email', 'alice', 'clear')",
    "no rule": "SELECT envelope.unmask('person', 'email')",
    "refresh": "CALL envelope.refresh('person')",
    "sink: insert into a table of one's own": "CREATE TABLE sink (note text);"
    " INSERT INTO sink SELECT email || coalesce(ssn, '') FROM person; TABLE sink",
    "select into": "SELECT * INTO TEMP got FROM person; TABLE got",
    "rule": "CREATE TABLE bait (note text); CREATE RULE r AS ON INSERT TO bait DO INSTEAD SELECT * FROM person;"
    " INSERT INTO bait VALUES ('x')",
    "merge": "CREATE TEMP TABLE got (id int, note text); MERGE INTO got USING person p ON got.id = p.id"
    " WHEN NOT MATCHED THEN INSERT VALUES (p.id, p.email || coalesce(p.ssn, '')); TABLE got",
    "merge into the masked table": "MERGE INTO person p USING person q ON p.id = q.id"
    " WHEN MATCHED THEN UPDATE SET name = q.email; SELECT name FROM person",
    "on conflict": "CREATE TEMP TABLE got (id int PRIMARY KEY, note text); INSERT INTO got SELECT id FROM person;"
    " INSERT INTO got SELECT id, email FROM person ON CONFLICT (id) DO UPDATE SET note = excluded.note; TABLE got",
    "on conflict in the masked table": "INSERT INTO person (id, name, email) VALUES (1, 'x', 'x@y')"
    " ON CONFLICT (id) DO UPDATE SET name = person.email RETURNING *",
}
# The other attacks run to their end. One that fails for another reason than it is meant to shows nothing.
FAILS = {
    "cast that fails": "22007",
    "division by the amount": "22012",
    "regular expression that fails": "2201B",
    "update that fails in a CHECK": "23514",
    "system columns": "42703",
    "domain over the value": "23514",
    "lock on the base table": "42501",
    "token without a rule": "42501",
    "the rules": "42501",
    "SET ROLE of who sees values": "42501",
    "session authorization": "42501",
    "own rule": "42501",
    "no rule": "42501",
    "refresh": "42501",
    "on conflict in the masked table": "42P10",
}


@pytest.fixture
def alice_s(masked: Database) -> tuple[Connection, list[str]]:
    """Alice, and all that the server tells her: rows are kept apart."""
    told: list[str] = []
    alice = masked.connect("alice")
    alice.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    return alice, told


class Told(list[str]):
    """All rows of all statements, or the error with all its fields."""

    sqlstate: str | None = None


def every_result(session: Connection, statements: str) -> Told:
    rows = Told()
    try:
        cursor = session.execute(statements.encode())
    except psycopg.Error as error:
        session.rollback()
        fields = ("message_primary", "message_detail", "message_hint", "context", "internal_query")
        rows += [str(getattr(error.diag, field)) for field in fields]
        rows.sqlstate = error.sqlstate
        return rows
    while True:
        rows += map(str, cursor.fetchall() if cursor.description else [])
        if not cursor.nextset():
            return rows


def test_no_attack_shows_a_value(masked: Database, alice_s: tuple[Connection, list[str]]) -> None:
    alice, told = alice_s
    assert any(MARK in line for line in every_result(masked.connect("bob"), "TABLE person"))
    for name, statements in ATTACKS.items():
        alice.execute("RESET ALL; BEGIN")
        ended = every_result(alice, statements)
        found = [*ended, *told]
        alice.execute("ROLLBACK")
        alice.execute("RESET SESSION AUTHORIZATION; CLOSE ALL; DEALLOCATE ALL; DISCARD TEMP")
        assert ended.sqlstate == expected(masked, name), (name, ended)
        assert found or name == "statistics", name
        leaked = [line for line in found if MARK in line]
        assert not leaked, (name, leaked)
        told.clear()


def expected(db: Database, name: str) -> str | None:
    """PostgreSQL 17 brought MERGE into views."""
    if name == "merge into the masked table":
        return None if db.admin.info.server_version >= 170000 else "0A000"
    return FAILS.get(name)


def test_no_dump_shows_a_value(masked: Database, stack: Stack) -> None:
    """A dump by `pg_dump --inserts` has the view's definition. Rows are in the base table, which alice may not read."""
    command = Command(stack, masked.name, "alice")
    asked = [str(stack.cluster.bindir / "pg_dump"), "--inserts", "--dbname", masked.name]
    for table, code, says in (("person", 0, "CREATE VIEW public.person"), ("person_encrypted", 1, "permission denied")):
        ended = subprocess.run(
            [*asked, "--table", table], env=command.environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == code, ended.stderr
        assert says in ended.stdout + ended.stderr
        assert MARK not in ended.stdout + ended.stderr


def test_a_plan_made_for_values_shows_masks_after_set_role(masked: Database) -> None:
    session = masked.connect()
    session.execute("PREPARE p AS SELECT email FROM person WHERE id = 1")
    seen = []
    for role in ("bob", "alice", "bob", "none"):
        session.execute(f"SET ROLE {role}")
        seen += session.execute("EXECUTE p").fetchall()
    assert seen == [(CLEAR_EMAIL,), ("a***@example.org",), (CLEAR_EMAIL,), (CLEAR_EMAIL,)]


def test_a_cursor_shows_what_its_first_reader_may_see(masked: Database) -> None:
    """As with a plain table, whose rights are asked once: who opens a cursor and hands it on hands on what it shows."""
    session = masked.connect()
    for reader, other, first, then in (
        ("alice", "bob", "a***@example.org", "a***@example.org"),
        ("bob", "alice", CLEAR_EMAIL, CLEAR_EMAIL.replace("1@", "2@")),
    ):
        session.execute(f"BEGIN; SET LOCAL ROLE {reader}; DECLARE c CURSOR FOR SELECT email FROM person ORDER BY id")
        seen = session.execute("FETCH c").fetchall()
        session.execute(f"SET LOCAL ROLE {other}")
        seen += session.execute("FETCH c").fetchall()
        session.execute("ROLLBACK")
        assert seen == [(first,), (then,)]


def test_a_cursor_that_nobody_read_shows_what_the_reader_may_see(masked: Database) -> None:
    session = masked.connect()
    session.execute("BEGIN; SET LOCAL ROLE bob; DECLARE c CURSOR FOR SELECT email FROM person ORDER BY id")
    session.execute("SET LOCAL ROLE alice")
    assert session.execute("FETCH c").fetchall() == [("a***@example.org",)]


def test_a_definer_s_function_shows_what_the_definer_sees(masked: Database) -> None:
    for role in ("alice", "bob"):
        masked.sql(
            f"CREATE FUNCTION of_{role}() RETURNS text LANGUAGE sql SECURITY DEFINER"
            " AS 'SELECT email FROM person WHERE id = 1'",
            user=role,
        )
    assert masked.sql("SELECT of_alice(), of_bob()", user="alice") == [("a***@example.org", CLEAR_EMAIL)]
    assert masked.sql("SELECT of_alice(), of_bob()", user="bob") == [("a***@example.org", CLEAR_EMAIL)]


def test_a_view_of_who_sees_values_shows_its_reader_masks(masked: Database) -> None:
    masked.sql("CREATE VIEW of_bob AS SELECT * FROM person; GRANT SELECT ON of_bob TO alice", user="bob")
    assert masked.sql("SELECT email FROM of_bob WHERE id = 1", user="alice") == [("a***@example.org",)]
    assert masked.sql("SELECT email FROM of_bob WHERE id = 1", user="bob") == [(CLEAR_EMAIL,)]


def test_a_trigger_of_the_table_sees_what_the_writing_role_sees(masked: Database) -> None:
    masked.sql(
        "CREATE TABLE log (line text); GRANT ALL ON log TO public;"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO log VALUES (public.person_envelope_clear(NEW) ->> 'email'); RETURN NEW; END $$;"
        "CREATE TRIGGER note BEFORE UPDATE ON person_encrypted FOR EACH ROW EXECUTE FUNCTION note();"
        "CALL envelope.refresh('person')"
    )
    for role in ("alice", "bob"):
        masked.sql("UPDATE person SET name = 'x', email = email WHERE id = 1", user=role)
    masked.sql("UPDATE person SET email = 'new@example.org' WHERE id = 1", user="alice")
    assert masked.sql("TABLE log") == [("a***@example.org",), (CLEAR_EMAIL,), ("new@example.org",)]


def test_a_membership_that_ends_counts_from_the_next_statement(masked: Database) -> None:
    role = f"role_{os.urandom(4).hex()}"
    masked.sql(f"CREATE ROLE {role}; GRANT bob TO {role}")
    try:
        session = masked.connect()
        session.execute(f"SET ROLE {role}")
        assert session.execute("SELECT email FROM person WHERE id = 1").fetchall() == [(CLEAR_EMAIL,)]
        masked.sql(f"REVOKE bob FROM {role}; GRANT SELECT ON person TO {role}")
        assert session.execute("SELECT email FROM person WHERE id = 1").fetchall() == [("a***@example.org",)]
        session.close()
    finally:
        masked.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_rule_counts_from_the_next_statement_in_every_session(masked: Database) -> None:
    alice, bob = masked.connect("alice"), masked.connect("bob")
    read = "SELECT ssn FROM person WHERE id = 1"
    assert (alice.execute(read).fetchall(), bob.execute(read).fetchall()) == ([("***01",)], [("5d1e-00001",)])
    masked.sql("SELECT envelope.mask('person', 'ssn', 'bob', 'null')")
    assert (alice.execute(read).fetchall(), bob.execute(read).fetchall()) == ([("***01",)], [(None,)])
    masked.sql("SELECT envelope.unmask('person', 'ssn', 'bob'), envelope.mask('person', 'ssn', 'alice', 'clear')")
    assert (alice.execute(read).fetchall(), bob.execute(read).fetchall()) == ([("5d1e-00001",)], [("***01",)])
    masked.sql("SELECT envelope.unmask('person', 'ssn')")
    assert bob.execute(read).fetchall() == [("5d1e-00001",)]


def test_without_its_rules_a_masked_view_shows_nothing(masked: Database) -> None:
    masked.sql("DELETE FROM envelope_private.mask")
    assert failure(masked.connect("bob"), "SELECT email FROM person").sqlstate == "42501"
    assert masked.one("SELECT email FROM person WHERE id = 1") == CLEAR_EMAIL
    masked.sql("CALL envelope.refresh('person')")
    assert masked.sql("SELECT email FROM person WHERE id = 1", user="bob") == [(CLEAR_EMAIL,)]


def test_a_forged_token_opens_nothing_that_the_session_has_opened(masked: Database) -> None:
    """With an envelope from a stolen backup, in a session that has the column's key."""
    stolen = masked.one("SELECT email FROM person_encrypted WHERE id = 1")
    column = masked.one("SELECT field_uuid::text FROM envelope.columns WHERE \"column\" = 'email'")
    for role in ("alice", "bob"):
        session = masked.connect(role)
        # The last row is NULL in all but one column, and takes the careful path.
        for read in ("SELECT email FROM person", "SELECT email, ssn FROM person ORDER BY id"):
            session.execute(read)
            rule = session.execute(
                "SELECT uuid_send(envelope_internal.mask_of(%s, current_user))", [column]
            ).fetchall()[0][0]
            for token in (b"", b"\0", bytes(16), bytes(32), bytes(16) + rule, rule, rule * 2, bytes(40) + rule, None):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute("SELECT envelope_internal.decrypt_text_masked(%s, %s, '1')", [stolen, token])


def test_a_transaction_that_takes_its_rule_back_changed_nothing(masked: Database) -> None:
    with masked.admin.transaction(force_rollback=True):
        masked.sql("SELECT envelope.unmask('person', 'email')")
    assert masked.sql("SELECT email FROM person WHERE id = 1", user="alice") == [("a***@example.org",)]
