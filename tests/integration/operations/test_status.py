"""envelope.status(): each check's failing state, provoked for real, and its hint followed until all is well again."""

from __future__ import annotations

import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

from .fix_kms_life import READ


def check(db: Database, name: str) -> tuple[str, str, str | None]:
    """State, detail and hint of one check."""
    ((state, detail, hint),) = db.sql("SELECT state, detail, hint FROM envelope.status() WHERE check_name = %s", name)
    return state, detail, hint


def assert_all_ok(db: Database) -> None:
    assert (
        db.sql("SELECT check_name, state, detail FROM envelope.status() WHERE state <> 'ok' OR hint IS NOT NULL") == []
    )


def test_all_is_well_with_a_protected_table(people: Database) -> None:
    names = [row[0] for row in people.sql("SELECT check_name FROM envelope.status()")]
    assert names[:4] == ["versions", "broker", "environment", "kek default"]
    assert len(names) == len(set(names)) >= 8
    assert_all_ok(people)


def test_versions_differ(people: Database) -> None:
    people.sql("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'pg_envelope'")
    state, detail, hint = check(people, "versions")
    assert state == "failed"
    assert "extension 0.0.1, package" in detail
    assert hint is not None
    assert "ALTER EXTENSION pg_envelope UPDATE" in hint


def test_broker_down(breakable: Stack, people: Database) -> None:
    breakable.broker.stop()
    state, detail, hint = check(people, "broker")
    assert (state, detail) == ("failed", "the key broker is not running")
    assert hint is not None
    assert "pg-envelope" in hint
    assert check(people, "views")[0] == "ok", "checks that need no broker go on"
    breakable.broker.start()
    wait_until(lambda: check(people, "kek default")[0] == "ok", 60, "the broker's first look at the KMS")
    assert_all_ok(people)


def test_kms_sealed(patient: Stack, people: Database) -> None:
    patient.openbao.seal()
    people.connect().execute(READ)
    # A first look can run out of time while OpenBao seals.
    wait_until(lambda: "sealed" in check(people, "kek default")[1], 60, "the broker's look at the sealed KMS")
    state, _, hint = check(people, "kek default")
    assert state in ("warning", "failed")
    assert hint
    assert check(people, "broker")[0] == "ok"


def test_a_kek_that_the_broker_does_not_know(people: Database) -> None:
    people.sql("UPDATE envelope_private.key SET kek = 'gone'")
    expected = ("failed", "used here, but unknown to the broker", "Declare [kek.gone] in the broker's configuration.")
    assert check(people, "kek gone") == expected


def test_a_kek_of_any_name_has_a_row_of_its_own(people: Database) -> None:
    rows = "SELECT check_name, detail FROM envelope.status() WHERE check_name LIKE 'kek %'"
    assert [name for name, _ in people.sql(rows)] == ["kek default"]
    people.sql("UPDATE envelope_private.key SET kek = 'versions'")
    assert [name for name, _ in people.sql(rows)] == ["kek default", "kek versions"]


def test_plaintext_in_a_protected_column(people: Database) -> None:
    people.sql("DROP VIEW person")
    people.sql('DROP TRIGGER "~envelope_guard_write" ON person_encrypted')
    people.sql("ALTER TABLE person_encrypted ALTER email TYPE bytea")
    state, detail, _ = check(people, "plaintext")
    assert state == "failed"
    assert "person_encrypted.email" in detail


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER envelope_update ON person",
        'ALTER TABLE person_encrypted DISABLE TRIGGER "~envelope_guard_update"',
        "ALTER VIEW person SET (security_invoker = true)",
        # As in a restore: otherwise each follows the other.
        "SET check_function_bodies = off; ALTER VIEW person OWNER TO owner; RESET check_function_bodies",
        "SET check_function_bodies = off; ALTER TABLE person_encrypted OWNER TO owner; RESET check_function_bodies",
    ],
)
def test_a_view_that_is_not_as_it_was_made(people: Database, damage: str) -> None:
    people.sql(damage)
    state, detail, hint = check(people, "views")
    assert (state, hint) == ("failed", "CALL envelope.refresh('<table>')")
    assert "person_encrypted" in detail
    people.sql("CALL envelope.refresh('person')")
    assert_all_ok(people)
    assert people.sql(READ) == [("a@b.c",)]


def test_triggers_that_a_loader_disabled_fire_always_again(people: Database) -> None:
    people.sql("ALTER TABLE person_encrypted DISABLE TRIGGER ALL")
    people.sql("ALTER TABLE person_encrypted ENABLE TRIGGER ALL")
    assert_all_ok(people)
    people.sql("SET session_replication_role = replica")
    people.sql("UPDATE person_encrypted SET id = id + 100")
    assert people.sql("SELECT email FROM person WHERE id = 101") == [("a@b.c",)]


def test_capabilities_missing(people: Database) -> None:
    people.sql("DELETE FROM envelope_private.capability")
    state, detail, hint = check(people, "capabilities")
    assert (state, hint) == ("failed", "SELECT envelope.renew_capabilities()")
    assert "person.email" in detail
    people.sql(hint)
    assert_all_ok(people)
    assert people.sql(READ) == [("a@b.c",)]


def test_the_view_owner_may_not_read_its_capabilities(people: Database) -> None:
    people.sql("CREATE TABLE owned (id int PRIMARY KEY, email text)")
    people.sql("ALTER TABLE owned OWNER TO owner")
    people.sql("INSERT INTO owned VALUES (1, 'x')")
    people.sql("""CALL envelope.protect('owned', '["email"]')""")
    assert_all_ok(people)
    people.sql("REVOKE SELECT ON envelope_private.capability FROM owner")
    state, detail, hint = check(people, "capabilities")
    assert state == "failed"
    assert "owned.email" in detail
    assert "person.email" not in detail
    people.sql(hint or "")
    assert_all_ok(people)
    assert people.sql("SELECT email FROM owned") == [("x",)]


def test_an_owner_that_bypasses_row_policies(people: Database) -> None:
    people.sql("CREATE ROLE over_all")
    people.sql("SELECT envelope_private.allow_owner('over_all'::regrole)")
    people.sql("ALTER ROLE over_all BYPASSRLS")
    state, detail, hint = check(people, "owners")
    assert (state, hint) == ("failed", "ALTER ROLE ... NOBYPASSRLS")
    assert "over_all" in detail
    people.sql("ALTER ROLE over_all NOBYPASSRLS")
    assert check(people, "owners")[0] == "ok"
    people.sql("DROP OWNED BY over_all; DROP ROLE over_all")


def test_rows_of_the_catalog_without_parent(people: Database) -> None:
    people.sql("SET session_replication_role = replica; DELETE FROM envelope_private.key")
    state, detail, _ = check(people, "catalog")
    assert state == "failed"
    assert "dek 1" in detail


def test_a_catalog_that_lost_its_name_says_so_and_makes_no_keys_under_another(people: Database) -> None:
    people.sql("SET session_replication_role = replica; DELETE FROM envelope_private.installation")
    session = people.connect()
    state, detail, _ = check(people, "catalog")
    assert state == "failed"
    assert "envelope_private.installation" in detail
    for statement in ("SELECT envelope.rotate('person')", "SELECT envelope.create_key('api')"):
        sqlstate, text, _ = failure(session, statement)
        assert sqlstate == "55000"
        assert text.endswith("does not say any more which database its keys belong to")
    assert people.one("SELECT count(*) FROM envelope_private.installation") == 0


def test_a_materialized_view_that_stores_what_was_decrypted(people: Database) -> None:
    people.sql("CREATE MATERIALIZED VIEW copy AS SELECT upper(email) AS upper FROM person")
    state, detail, _ = check(people, "copies")
    assert state == "warning"
    assert detail.endswith("copy")
    people.sql("DROP MATERIALIZED VIEW copy")
    people.sql("CREATE MATERIALIZED VIEW harmless AS SELECT id FROM person")
    assert check(people, "copies")[0] == "ok"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"log_statement": "none", "log_parameter_max_length": "-1"}, None),
        ({"log_statement": "mod", "log_parameter_max_length": "-1"}, "log_parameter_max_length"),
        ({"log_statement": "ddl", "log_parameter_max_length": "8"}, None),
        ({"log_min_duration_statement": "1000", "log_parameter_max_length": "8"}, "log_parameter_max_length"),
        ({"log_min_duration_sample": "1000", "log_parameter_max_length": "8"}, "log_parameter_max_length"),
        ({"log_transaction_sample_rate": "0.1", "log_parameter_max_length": "8"}, "log_parameter_max_length"),
        ({"log_parameter_max_length_on_error": "8"}, "log_parameter_max_length_on_error"),
    ],
)
def test_values_in_the_server_s_log(people: Database, settings: dict[str, str], named: str | None) -> None:
    people.sql("SET log_statement = none")
    for name, value in settings.items():
        people.sql("SELECT set_config(%s, %s, false)", name, value)
    state, detail, _ = check(people, "logging")
    assert (state, detail.partition(": ")[2]) == (("warning", named) if named else ("ok", "none"))


def test_values_in_the_plans_of_auto_explain(people: Database) -> None:
    """It writes parameters down since PostgreSQL 16, those of all plans that take long enough."""
    people.sql("LOAD 'auto_explain'")
    assert check(people, "logging")[0] == "ok", "loaded, and told to log nothing"
    people.sql("SET auto_explain.log_min_duration = 1000")
    since_16 = people.admin.info.server_version >= 160000
    state, detail, hint = check(people, "logging")
    assert state == ("warning" if since_16 else "ok")
    if since_16:
        assert "auto_explain.log_parameter_max_length" in detail
        assert hint is not None
        people.sql("SET auto_explain.log_parameter_max_length = 0")
        assert_all_ok(people)


def test_columns_and_keys_tell_what_is_there(people: Database) -> None:
    people.sql("SELECT envelope.create_key('k', store => 'catalog')")
    people.sql("SELECT envelope.grant_key('k', 'alice')")
    people.sql("SELECT envelope.rotate('person')")
    columns = people.sql(
        'SELECT relation::text, "column", type, base_table::text, bind, suite, pad, kek, key_version'
        " FROM envelope.columns"
    )
    assert columns == [("person", "email", "text", "person_encrypted", "row", 1, False, "default", 2)]
    keys = people.sql("SELECT name, relation::text, version, state, store, granted_to FROM envelope.keys ORDER BY 1, 3")
    assert keys == [
        ("k", None, 1, "active", "catalog", ["alice"]),
        (None, "person", 1, "decrypt-only", "vault", []),
        (None, "person", 2, "active", "vault", []),
    ]
