"""Who may SELECT a column of the view reads it, by whatever path; nobody else gets anything, by no path."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database, Fill
from tests.security.fix_people import DENIED, failure, field_uuid, make_people, stored, value

Connection = psycopg.Connection[Any]

READ = "SELECT email FROM people WHERE id = 1"
CAPABILITY = "SELECT capability FROM envelope_private.capability"
CREATE_AS_OWNER = "GRANT CREATE ON SCHEMA public TO owner"


@pytest.fixture
def db(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(make_people)


@pytest.fixture
def people(db: Database) -> Database:
    return db


class TestPathsThatRead:
    """Whoever may SELECT the column, or something of an owner who may."""

    def test_select_on_the_view(self, people: Database, alice: Connection) -> None:
        people.sql("GRANT SELECT ON people TO alice")
        assert value(alice, READ) == "ann@example.org"

    def test_columns_one_by_one(self, people: Database, alice: Connection) -> None:
        people.sql("GRANT SELECT (id, email) ON people TO alice")
        assert value(alice, READ) == "ann@example.org"
        assert failure(alice, "SELECT phone FROM people").sqlstate == DENIED
        assert failure(alice, "SELECT * FROM people").sqlstate == DENIED
        assert failure(alice, "SELECT id FROM people WHERE phone = '112'").sqlstate == DENIED

    def test_a_view_over_the_view(self, people: Database, owner: Connection, alice: Connection) -> None:
        owner.execute("CREATE VIEW mails AS SELECT id, email FROM people")
        owner.execute("CREATE VIEW first_mail AS SELECT email FROM mails WHERE id = 1")
        owner.execute("GRANT SELECT ON first_mail TO alice")
        assert value(alice, "SELECT email FROM first_mail") == "ann@example.org"
        assert failure(alice, READ).sqlstate == DENIED

    def test_a_view_of_a_reader_over_the_view(self, people: Database, alice: Connection, bob: Connection) -> None:
        people.sql("GRANT SELECT ON people TO alice; CREATE SCHEMA alices AUTHORIZATION alice")
        alice.execute("CREATE VIEW alices.mails AS SELECT id, email FROM people")
        alice.execute("GRANT USAGE ON SCHEMA alices TO bob; GRANT SELECT ON alices.mails TO bob")
        assert value(bob, "SELECT email FROM alices.mails WHERE id = 1") == "ann@example.org"
        people.sql("REVOKE SELECT ON people FROM alice")
        assert failure(bob, "SELECT email FROM alices.mails WHERE id = 1").sqlstate == DENIED

    def test_an_invoker_view_over_the_view(self, people: Database, owner: Connection, alice: Connection) -> None:
        owner.execute("CREATE VIEW mails WITH (security_invoker) AS SELECT id, email FROM people")
        owner.execute("GRANT SELECT ON mails TO alice")
        assert failure(alice, "SELECT email FROM mails").sqlstate == DENIED
        people.sql("GRANT SELECT ON people TO alice")
        assert value(alice, "SELECT email FROM mails WHERE id = 1") == "ann@example.org"

    def test_a_security_definer_function(self, people: Database, owner: Connection, alice: Connection) -> None:
        owner.execute(f"CREATE FUNCTION mail() RETURNS text LANGUAGE sql SECURITY DEFINER AS '{READ}'")
        assert value(alice, "SELECT mail()") == "ann@example.org"
        assert failure(alice, READ).sqlstate == DENIED

    def test_membership(self, people: Database, make_role: Callable[[str], str]) -> None:
        readers = make_role("NOLOGIN")
        people.sql(f"GRANT SELECT ON people TO {readers}")
        people.sql(f"GRANT {readers} TO bob")
        assert value(people.connect("bob"), READ) == "ann@example.org"
        people.sql(f"REVOKE {readers} FROM bob")
        assert failure(people.connect("bob"), READ).sqlstate == DENIED

    def test_pg_read_all_data_reads_as_any_table(self, people: Database, make_role: Callable[[str], str]) -> None:
        reader = make_role("LOGIN IN ROLE pg_read_all_data")
        assert value(people.connect(reader), READ) == "ann@example.org"
        assert people.connect(reader).execute(CAPABILITY).fetchall() == []

    def test_cursor_prepared_statement_copy_and_table(self, people: Database, alice: Connection) -> None:
        people.sql("GRANT SELECT ON people TO alice")
        alice.execute(f"PREPARE p AS {READ}; DECLARE c CURSOR WITH HOLD FOR {READ}")
        assert value(alice, "EXECUTE p") == value(alice, "FETCH c") == "ann@example.org"
        alice.execute(f"CREATE TEMP TABLE mine AS {READ}")
        with alice.cursor().copy("COPY (SELECT email FROM people WHERE id = 1) TO STDOUT") as copied:
            assert b"".join(copied) == b"ann@example.org\n"
        people.sql("REVOKE SELECT ON people FROM alice")
        assert failure(alice, "EXECUTE p").sqlstate == DENIED


class TestRevoke:
    def test_the_next_statement_fails_in_a_warm_session(self, people: Database, alice: Connection) -> None:
        people.sql("GRANT SELECT, INSERT, UPDATE ON people TO alice")
        alice.execute("UPDATE people SET email = 'ann@example.org' WHERE id = 1")
        assert value(alice, READ) == "ann@example.org"
        people.sql("REVOKE SELECT, INSERT, UPDATE ON people FROM alice")
        for statement in (READ, "INSERT INTO people VALUES (9, 'x')", "UPDATE people SET email = 'x'"):
            assert failure(alice, statement).sqlstate == DENIED

    def test_every_role_of_a_session_has_its_own_rights(self, people: Database) -> None:
        """The keyring is the session's; a role that may not read gets nothing from it."""
        session = people.connect()
        assert value(session, READ) == "ann@example.org"
        session.execute("SET ROLE alice")
        assert failure(session, READ).sqlstate == DENIED
        self.by_hand(people, session)
        session.execute("RESET ROLE; SET SESSION AUTHORIZATION alice")
        assert failure(session, READ).sqlstate == DENIED
        self.by_hand(people, session)
        session.execute("DISCARD ALL")
        session.execute("SET ROLE alice")
        assert failure(session, READ).sqlstate == DENIED
        self.by_hand(people, session)

    def by_hand(self, people: Database, session: Connection) -> None:
        envelope = stored(people)
        assert failure(session, "SELECT envelope_internal.decrypt_text(%s, NULL, '1')", envelope).sqlstate == DENIED
        assert (
            failure(session, "SELECT envelope_internal.decrypt_text(%s, %s, '1')", envelope, bytes(16)).sqlstate
            == DENIED
        )
        assert failure(session, "SELECT envelope.decrypt(%s, '1')", envelope).sqlstate == DENIED

    def test_discard_all_keeps_what_the_role_may_do(self, people: Database, alice: Connection) -> None:
        people.sql("GRANT SELECT ON people TO alice")
        assert value(alice, READ) == "ann@example.org"
        alice.execute("DISCARD ALL")
        assert value(alice, READ) == "ann@example.org"


GUESSES = [None, b"", b"\0", bytes(15), bytes(16), bytes(17), bytes(21), bytes(22), bytes(23), os.urandom(16)]

ADMINISTERS = (
    "SELECT envelope.create_key('mine')",
    "SELECT envelope.grant_key('k', 'alice')",
    "SELECT envelope.revoke_key('k', 'owner')",
    "SELECT envelope.rotate_key('k')",
    "SELECT envelope.rotate('people')",
    "SELECT envelope.renew_capabilities()",
    "SELECT envelope.flush()",
    "SELECT envelope.status()",
    "CALL envelope.protect('people', '[]')",
    "CALL envelope.unprotect('people')",
    "CALL envelope.refresh('people')",
    "CALL envelope.reencrypt('people')",
    "TABLE envelope.columns",
    "TABLE envelope.keys",
    CAPABILITY,
    "TABLE envelope_private.usable_key",
    "TABLE envelope_private.dek",
    "SELECT envelope_private.reads_through_view(10::oid, 1259::oid, 'oid')",
    "SELECT envelope_private.renew_seal(NULL)",
)


class TestByHand:
    """A stolen envelope, and everything in schema envelope that PUBLIC may call."""

    @pytest.mark.parametrize("warm", [False, True])
    def test_guessed_capabilities(self, people: Database, alice: Connection, warm: bool) -> None:
        if warm:
            people.sql("GRANT SELECT ON people TO alice")
            alice.execute(READ)
            people.sql("REVOKE SELECT ON people FROM alice")
        envelope = stored(people)
        for guess in GUESSES:
            for statement, subject in (
                ("SELECT envelope_internal.decrypt_text(%s, %s, '1')", envelope),
                ("SELECT envelope_internal.decrypt_bytea(%s, %s, '1')", envelope),
                ("SELECT envelope_internal.encrypt_text(%s, %s, '1')", "text"),
                ("SELECT envelope_internal.encrypt_bytea(%s, %s, '1')", b"bytes"),
            ):
                assert failure(alice, statement, subject, guess).sqlstate == DENIED

    def test_reseal_gives_no_new_envelope(self, people: Database, alice: Connection) -> None:
        people.sql("SELECT envelope.rotate('people')")
        envelope = stored(people)
        for guess in (guess for guess in GUESSES if guess is None or not guess.endswith(envelope[:6])):
            assert failure(alice, "SELECT envelope_internal.reseal(%s, %s, '1')", envelope, guess).sqlstate == DENIED

    def test_a_key_id_of_the_column_is_no_seal(self, people: Database, alice: Connection) -> None:
        forged = bytes(16) + stored(people)[:6]
        assert failure(alice, "SELECT envelope_internal.encrypt_text('x', %s, '1')", forged).sqlstate == DENIED

    def test_by_role_needs_the_privilege(self, people: Database, alice: Connection) -> None:
        envelope, uuid = stored(people), field_uuid(people)
        for field in (uuid, None, "00000000-0000-0000-0000-000000000000"):
            for kind, plain in (("text", "x"), ("bytea", b"x")):
                read = f"SELECT envelope_internal.decrypt_{kind}_as_role(%s, %s::uuid, '1')"
                write = f"SELECT envelope_internal.encrypt_{kind}_as_role(%s, %s::uuid, '1')"
                assert failure(alice, read, envelope, field).sqlstate == DENIED
                assert failure(alice, write, plain, field).sqlstate == DENIED

    def test_select_on_the_view_is_no_right_to_other_envelopes(self, people: Database, alice: Connection) -> None:
        """Without row-level security the right comes from the path alone."""
        people.sql("GRANT SELECT ON people TO alice")
        assert value(alice, READ) == "ann@example.org"
        uuid = field_uuid(people)
        statement = "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')"
        assert failure(alice, statement, stored(people), uuid).sqlstate == DENIED

    def test_named_key_functions(self, people: Database, alice: Connection) -> None:
        people.sql("SELECT envelope.create_key('k')")
        envelope = bytes(people.one("SELECT envelope.encrypt('x', 'k')"))
        for statement, subject in (
            ("SELECT envelope.decrypt(%s)", envelope),
            ("SELECT envelope.decrypt_bytea(%s)", envelope),
            ("SELECT envelope.decrypt(%s, '1')", stored(people)),
            ("SELECT envelope.encrypt('x', %s)", "k"),
            ("SELECT envelope.encrypt('x'::bytea, %s)", "k"),
            ("SELECT envelope.encrypt('x', %s)", "no such key"),
            ("SELECT envelope.encrypt('x', %s)", None),
        ):
            assert failure(alice, statement, subject).sqlstate == DENIED

    @pytest.mark.parametrize("warm", [False, True])
    def test_a_step_cannot_be_run_by_hand(self, people: Database, alice: Connection, warm: bool) -> None:
        alice.execute("SELECT envelope_internal.bootstrap()")
        if warm:
            people.sql("GRANT SELECT ON people TO alice")
            alice.execute(READ)
        assert failure(alice, "SELECT envelope_internal.run_step('postgres')").sqlstate == DENIED

    def test_bootstrap_by_hand_does_no_harm(self, people: Database, alice: Connection) -> None:
        people.sql("GRANT SELECT ON people TO alice")
        for _ in range(2):
            alice.execute("SELECT envelope_internal.bootstrap()")
            assert value(alice, READ) == "ann@example.org"

    def test_what_administers_is_not_public(self, people: Database, alice: Connection) -> None:
        for call in ADMINISTERS:
            assert failure(alice, call).sqlstate == DENIED


class TestOwners:
    """Table owners are trusted with their own tables, and with nothing else."""

    @pytest.fixture
    def two(self, people: Database) -> Database:
        """people of owner, others of bob."""
        make_people(people, "others", owner="bob")
        return people

    def test_an_owner_sees_its_own_capabilities_only(self, two: Database, bob: Connection) -> None:
        rows = bob.execute("SELECT DISTINCT view_owner::text FROM envelope_private.capability").fetchall()
        assert rows == [("bob",)]
        uuid = field_uuid(two)
        statement = f"SELECT envelope_internal.decrypt_text(%s, ({CAPABILITY} WHERE field_uuid = %s), '1')"
        assert failure(bob, statement, stored(two), uuid).sqlstate == DENIED
        assert (
            failure(bob, "SELECT envelope_internal.decrypt_text_as_role(%s, %s, '1')", stored(two), uuid).sqlstate
            == DENIED
        )

    def test_an_owners_capability_opens_no_other_table(self, two: Database, bob: Connection) -> None:
        error = failure(bob, f"SELECT envelope_internal.decrypt_text(%s, ({CAPABILITY} LIMIT 1), '1')", stored(two))
        assert error.sqlstate == "XX001"

    def test_an_owner_may_not_change_capabilities(self, two: Database, bob: Connection) -> None:
        for statement in (
            "UPDATE envelope_private.capability SET view_owner = 'bob'::regrole",
            "DELETE FROM envelope_private.capability",
            "ALTER TABLE envelope_private.capability DISABLE ROW LEVEL SECURITY",
            "TABLE envelope_private.key",
            "SELECT envelope_private.rotate('others'::regclass, NULL)",
        ):
            assert failure(bob, statement).sqlstate == DENIED

    def test_another_owner_of_the_view_owns_the_base_table_too(self, two: Database) -> None:
        two.sql("ALTER VIEW people OWNER TO bob")
        assert value(two.connect("bob"), READ) == "ann@example.org"
        assert two.one("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'people_encrypted'") == "bob"
        assert failure(two.connect("owner"), READ).sqlstate == DENIED

    def test_an_owner_that_only_the_catalog_knows_fails_closed(self, two: Database) -> None:
        two.sql("SET check_function_bodies = off; ALTER VIEW people OWNER TO alice")
        assert failure(two.connect("alice"), READ).sqlstate == DENIED
        assert failure(two.admin, READ).sqlstate == DENIED

    def test_a_reader_with_row_security_off_reads_what_is_granted(self, two: Database, alice: Connection) -> None:
        two.sql("GRANT SELECT ON people TO alice")
        alice.execute("SET row_security = off")
        assert value(alice, READ) == "ann@example.org"

    def test_the_rights_of_a_table_are_its_owners_alone(
        self, two: Database, bob: Connection, alice: Connection
    ) -> None:
        uuid = two.one("SELECT key_uuid::text FROM envelope_private.key WHERE view = 'people'::regclass")
        name = f"right_{uuid.replace('-', '')}"
        for role in (alice, bob):
            assert failure(role, f"TABLE envelope_private.{name}").sqlstate == DENIED
        assert failure(two.connect("owner"), f"REFRESH MATERIALIZED VIEW envelope_private.{name}").sqlstate == DENIED

    def test_capabilities_and_seals_follow_the_owner_and_nothing_else(self, two: Database) -> None:
        two.sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO alice, PUBLIC")
        make_people(two, "third", owner="owner")
        two.sql("ALTER VIEW people OWNER TO bob; ALTER VIEW third OWNER TO bob")
        readers = two.sql(
            "SELECT c.relkind, r.rolname FROM pg_class c, pg_roles r"
            " WHERE c.relnamespace = 'envelope_private'::regnamespace AND c.relname ~ '^(right|seal)_[0-9a-f]{32}'"
            " AND r.rolname IN ('owner', 'bob', 'alice') AND has_table_privilege(r.oid, c.oid, 'SELECT')"
        )
        assert sorted(readers) == [("m", "bob")] * 3 + [("r", "bob")] * 3

    def test_the_seals_of_a_table_are_its_owners_alone(self, two: Database, bob: Connection, alice: Connection) -> None:
        uuid = two.one("SELECT key_uuid::text FROM envelope_private.key WHERE view = 'people'::regclass")
        seals = f"TABLE envelope_private.seal_{uuid.replace('-', '')}"
        for role in (alice, bob):
            assert failure(role, seals).sqlstate == DENIED
        assert len(two.connect("owner").execute(seals).fetchall()) == 1
        two.sql("ALTER TABLE people OWNER TO alice")
        assert failure(two.connect("owner"), seals).sqlstate == DENIED
        assert len(alice.execute(seals).fetchall()) == 1

    def test_a_role_that_only_bypasses_policies_gets_nothing(
        self, two: Database, make_role: Callable[[str], str]
    ) -> None:
        bypassing = make_role("LOGIN BYPASSRLS")
        for statement in (READ, CAPABILITY, "TABLE people_encrypted"):
            assert failure(two.connect(bypassing), statement).sqlstate == DENIED

    def test_a_view_of_ones_own_over_the_private_tables(self, two: Database, alice: Connection) -> None:
        two.sql("GRANT CREATE ON SCHEMA public TO alice")
        assert failure(alice, f"CREATE VIEW mine AS {CAPABILITY}").sqlstate == DENIED

    def test_a_trigger_function_serves_no_other_view(self, two: Database, alice: Connection) -> None:
        """It writes the base table as its owner: only its own view may call it."""
        two.sql("GRANT CREATE ON SCHEMA public TO alice")
        alice.execute("CREATE VIEW mine AS SELECT 7 AS id, 'x'::text AS email, 'y'::text AS phone")
        for event in ("insert", "update"):
            statement = (
                f"CREATE TRIGGER t INSTEAD OF {event} ON mine FOR EACH ROW EXECUTE FUNCTION people_envelope_{event}()"
            )
            assert failure(alice, statement).sqlstate == DENIED


SHADOWS = """
CREATE SCHEMA evil;
GRANT ALL ON SCHEMA evil TO alice;
SET ROLE alice;
CREATE TABLE evil.seen (what text);
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (true);
CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE sql AS $$ SELECT 'forged'::name $$;
CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    BEGIN PERFORM envelope_internal.run_step('postgres'); INSERT INTO evil.seen VALUES ('run_step');
        EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN 4242;
END $$;
CREATE FUNCTION evil.inet_client_addr() RETURNS inet LANGUAGE sql AS $$ SELECT '192.0.2.1'::inet $$;
CREATE FUNCTION evil.current_setting(pg_catalog.text) RETURNS pg_catalog.text LANGUAGE sql AS $$ SELECT 'forged' $$;
CREATE FUNCTION evil.same(name, name) RETURNS bool LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.same);
CREATE FUNCTION evil.keep(bytea, bytea, text) RETURNS text LANGUAGE sql AS $$
    INSERT INTO evil.seen VALUES ($2::pg_catalog.text) RETURNING what $$;
RESET ROLE;
"""


class TestCapture:
    """Code of an attacker that runs beside ours sees no capability and no key, and changes no answer."""

    @pytest.fixture
    def evil(self, people: Database) -> Database:
        people.sql(SHADOWS)
        people.sql("GRANT SELECT ON people TO alice")
        return people

    def test_a_hostile_search_path(self, evil: Database, alice: Connection) -> None:
        alice.execute("SET search_path = evil, public, pg_catalog")
        assert value(alice, READ) == "ann@example.org"
        assert value(alice, "SELECT count(*) FROM evil.seen") == 0

    def test_a_hostile_search_path_forges_no_audit_event(self, evil: Database, alice: Connection) -> None:
        alice.execute("SET application_name = 'audited-session'")
        alice.execute("SET search_path = evil, public, pg_catalog")
        alice.execute(READ)
        log = evil.stack.broker.audit_log.read_text()
        callers = [json.loads(line)["who"] for line in log.splitlines() if evil.name in line and '"alice"' in line]
        facts = {(who["application"], who["pid"], who.get("client")) for who in callers}
        assert facts == {("audited-session", alice.info.backend_pid, None)}, "the read of a new session is audited"

    def test_overloads_are_not_taken(self, evil: Database, alice: Connection) -> None:
        assert failure(alice, "CREATE FUNCTION envelope_internal.decrypt_text(bytea, bytea, text) RETURNS text"
                              " LANGUAGE sql AS 'SELECT NULL'").sqlstate == DENIED  # fmt: skip
        assert value(alice, READ) == "ann@example.org"

    def test_leaky_functions_see_only_rows_and_columns_of_the_view(self, evil: Database, alice: Connection) -> None:
        evil.sql("REVOKE SELECT ON people FROM alice; GRANT SELECT (id) ON people TO alice")
        alice.execute("CREATE FUNCTION pg_temp.leak(anyelement) RETURNS bool COST 0.0001 LANGUAGE plpgsql"
                      " AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$")  # fmt: skip
        notices: list[str | None] = []
        alice.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        alice.execute("SELECT id FROM people WHERE pg_temp.leak(id)")
        assert sorted(str(notice) for notice in notices) == ["1", "2", "3"]
        assert failure(alice, "SELECT id FROM people WHERE pg_temp.leak(people)").sqlstate == DENIED

    @pytest.mark.parametrize(
        "options", ["", "(VERBOSE)", "(ANALYZE, VERBOSE, COSTS, BUFFERS)", "(VERBOSE, FORMAT JSON)"]
    )
    def test_plans_hold_neither_capability_nor_value(self, evil: Database, alice: Connection, options: str) -> None:
        secrets = self.secrets(evil)
        for session in (alice, evil.admin):
            rows = session.execute(f"EXPLAIN {options} SELECT * FROM people").fetchall()
            assert not any(shows(str(rows), secret) for secret in secrets)

    def test_plan_trees_sent_to_the_client_hold_neither(self, evil: Database, alice: Connection) -> None:
        told: list[str] = []
        alice.add_notice_handler(lambda notice: told.append(f"{notice.message_primary} {notice.message_detail}"))
        alice.execute("SET client_min_messages = log; SET debug_print_plan = on; SET debug_print_parse = on")
        alice.execute("SELECT * FROM people")
        assert any("PLANNEDSTMT" in text for text in told)
        for secret in self.secrets(evil):
            assert not any(shows(text, secret) for text in told)

    def test_definitions_and_statistics_hold_neither(self, evil: Database) -> None:
        evil.sql("ANALYZE people_encrypted, envelope_private.capability")
        found = str(
            evil.sql("SELECT pg_get_viewdef('people'::regclass)")
            + evil.sql("SELECT prosrc FROM pg_proc WHERE proname LIKE 'people_envelope%'")
            + evil.sql("SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename LIKE 'people%'")
        )
        assert not any(shows(found, secret) for secret in self.secrets(evil))

    def test_an_error_in_the_middle_of_a_fetch_tells_neither(self, evil: Database, alice: Connection) -> None:
        evil.sql("UPDATE people_encrypted SET email = phone WHERE id = 1")
        error = failure(alice, "SELECT * FROM people")
        assert not any(shows(error.everything, secret) for secret in self.secrets(evil))

    def secrets(self, db: Database) -> list[bytes]:
        """Capabilities and e-mail addresses."""
        return [row[0] for row in db.sql(CAPABILITY)] + [b"ann@example.org", b"ben@example.org"]


def shows(text: str, secret: bytes) -> bool:
    """Whether a text holds these bytes: as they are, in hex, or as a plan tree prints a constant."""
    signed = " ".join(str(byte if byte < 128 else byte - 256) for byte in secret)
    return secret.decode("latin-1") in text or secret.hex() in text or signed in text


def test_renewed_capabilities_and_a_flush_make_old_ones_worthless(people: Database) -> None:
    """The flush reaches sessions that hold keys under the old ones."""
    old = people.one(f"{CAPABILITY} WHERE field_uuid = %s", field_uuid(people))
    statement = "SELECT envelope_internal.decrypt_text(%s, %s, '1')"
    assert value(people.admin, statement, stored(people), old) == "ann@example.org"
    people.sql("SELECT envelope.renew_capabilities(), envelope.flush('a capability leaked')")
    for session in (people.admin, people.connect()):
        assert failure(session, statement, stored(people), old).sqlstate == DENIED
        assert value(session, READ) == "ann@example.org"


@pytest.fixture
def make_role(db: Database) -> Any:
    """Makes roles with the options given; they go with the test."""
    with contextlib.ExitStack() as undo:

        def make(options: str) -> str:
            name = f"role_{os.urandom(4).hex()}"
            db.sql(f"CREATE ROLE {name} {options}")
            undo.callback(lambda: db.sql(f"DROP OWNED BY {name}; DROP ROLE {name}"))
            return name

        yield make
