"""Secrets by name: who may use one, what they turn into, versions, rotation, and that nothing shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import folder
from stack.stack import Stack
from tests.fix_stack import SETTINGS, Database

from .conftest import PASS, RAW

KEY, SECRET_KEY = "envelope.secret('pass')", "envelope.secret('raw')"
ROUND_TRIPS = [
    f"pgp_sym_decrypt(pgp_sym_encrypt('Zoë', {KEY}), '{PASS}')",
    f"pgp_sym_decrypt(pgp_sym_encrypt('Zoë', '{PASS}', 'cipher-algo=aes256'), {KEY}, 'debug=0')",
    f"pgp_sym_decrypt(pgp_sym_encrypt('Zoë'::text, {KEY}, 's2k-mode=1'::text), {KEY})",
    f"pgp_sym_decrypt(pgp_sym_encrypt('Zoë', {KEY}), {KEY}, '')",
    f"convert_from(pgp_sym_decrypt_bytea(pgp_sym_encrypt_bytea('Zo\\303\\253', {KEY}), '{PASS}'), 'UTF8')",
    f"convert_from(pgp_sym_decrypt_bytea(pgp_sym_encrypt_bytea('Zo\\303\\253', {KEY}, ''), {KEY}, ''), 'UTF8')",
    f"convert_from(decrypt(encrypt('Zo\\303\\253', {SECRET_KEY}, 'aes'), '\\x{RAW.hex()}', 'aes'), 'UTF8')",
    f"convert_from(decrypt(encrypt('Zo\\303\\253', '\\x{RAW.hex()}', 'aes'), {SECRET_KEY}, 'aes'), 'UTF8')",
    f"convert_from(decrypt_iv(encrypt_iv('Zo\\303\\253', {SECRET_KEY}, 'i', 'aes'), {SECRET_KEY}, 'i', 'aes'), 'UTF8')",
]
HMACS = [
    f"hmac('v', {KEY}, 'sha256') = hmac('v', '{PASS}', 'sha256')",
    f"hmac('v'::text, {KEY}, 'sha256'::text) = hmac('v', '{PASS}', 'sha256')",
    f"hmac('v'::bytea, {KEY}, 'sha256') = hmac('v', '{PASS}', 'sha256')",
    f"hmac('v'::bytea, {SECRET_KEY}, 'sha256') = hmac('v'::bytea, '\\x{RAW.hex()}', 'sha256')",
    f"hmac('v', (SELECT {KEY}::text), 'sha256') = hmac('v', '{PASS}', 'sha256')",
    f"hmac('v'::varchar, {KEY}, 'sha256') = hmac('v', '{PASS}', 'sha256')",
]


@pytest.mark.parametrize("schema", ["envelope_pgcrypto", "original"])
@pytest.mark.parametrize("expression", ROUND_TRIPS)
def test_a_name_stands_for_its_secret(both: Database, expression: str, schema: str) -> None:
    both.sql(f"SET search_path = {schema}")
    assert both.one(f"SELECT {expression}") == "Zoë"


@pytest.mark.parametrize("expression", HMACS)
def test_a_name_resolves_beside_any_other_argument(both: Database, expression: str) -> None:
    both.sql("SET search_path = envelope_pgcrypto")
    assert both.one(f"SELECT {expression}") is True


@pytest.mark.parametrize(
    "expression", ["envelope.secret(NULL)::text", "envelope.secret(NULL)::bytea", "envelope.secret('raw', 1)"]
)
def test_a_name_by_itself_is_no_secret(both: Database, expression: str) -> None:
    assert both.one(f"SELECT {expression}") in (None, "(raw,1)")


def refused(connection: psycopg.Connection[Any], statement: str, sqlstate: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    assert caught.value.sqlstate == sqlstate
    return caught.value


READ = "SELECT envelope_pgcrypto.hmac('v', envelope.secret('pepper'), 'sha256')"


def test_only_who_was_granted_the_key_may_use_it(db: Database, alice: Any, bob: Any) -> None:
    db.sql("SELECT envelope.create_secret('pepper')")
    db.sql("SELECT envelope.grant_key('pepper', 'alice')")
    alice.execute(READ)
    refused(bob, READ, "42501")
    refused(bob, "SELECT envelope_internal.run_step('bob')", "42501")
    refused(bob, "TABLE envelope_private.secret", "42501")
    db.sql("SELECT envelope.revoke_key('pepper', 'alice')")
    refused(alice, READ, "42501")


def test_set_role_does_not_reach_what_the_session_opened_before(db: Database) -> None:
    db.sql("SELECT envelope.create_secret('pepper')")
    db.sql(READ)
    db.sql("SET ROLE bob")
    refused(db.admin, READ, "42501")


def test_a_secret_is_32_random_characters(db: Database) -> None:
    db.sql("SELECT envelope.create_secret('a'), envelope.create_secret('b')")
    a, b = db.sql("SELECT envelope.secret('a')::text, envelope.secret('b')::text")[0]
    assert len(a) == len(b) == 32
    assert a != b


def test_versions(db: Database) -> None:
    db.sql("SELECT envelope.import_secret('pii', 'first'::text)")
    assert db.one("SELECT envelope.replace_secret('pii', 'second'::text)") == 2
    assert db.one("SELECT envelope.replace_secret('pii', '\\x00ff'::bytea)") == 3
    assert db.one("SELECT envelope.replace_secret('pii')") == 4
    found = db.sql(
        "SELECT envelope.secret('pii', 1)::text, envelope.secret('pii', 2)::text, envelope.secret('pii', 3)::bytea"
    )
    assert found == [("first", "second", b"\x00\xff")]
    assert db.one("SELECT envelope.secret('pii')::text = envelope.secret('pii', 4)::text")
    assert db.sql("SELECT name, version FROM envelope.secrets") == [("pii", version) for version in (1, 2, 3, 4)]
    refused(db.admin, "SELECT envelope.secret('pii', 5)::text", "42704")
    refused(db.admin, "SELECT envelope.secret('pii', 3)::text", "22023")


def test_a_new_version_counts_at_once_in_the_session_that_made_it(db: Database) -> None:
    db.sql("SELECT envelope.import_secret('pii', 'first'::text)")
    db.sql(
        "DO $$ BEGIN ASSERT envelope.secret('pii')::text = 'first';"
        " PERFORM envelope.replace_secret('pii', 'second'::text);"
        " ASSERT envelope.secret('pii')::text = 'second'; END $$"
    )


def test_rotation_keeps_a_secret_and_reseal_moves_it(db: Database) -> None:
    db.sql("SELECT envelope.import_secret('pii', 'first'::text), envelope.replace_secret('pii', 'second'::text)")
    before = db.sql("SELECT substr(sealed, 3, 4) FROM envelope_private.secret")
    db.sql("SELECT envelope.rotate_key('pii')")
    both = "SELECT envelope.secret('pii', 1)::text, envelope.secret('pii')::text"
    assert db.sql(both) == [("first", "second")]
    assert db.one("SELECT envelope.reseal_secret('pii')") == 2
    assert db.one("SELECT envelope.reseal_secret('pii')") == 0
    assert not set(before) & set(db.sql("SELECT substr(sealed, 3, 4) FROM envelope_private.secret"))
    assert db.sql(both) == [("first", "second")]


def test_one_version_cannot_take_the_place_of_another(db: Database) -> None:
    db.sql("SELECT envelope.import_secret('pii', 'first'::text), envelope.replace_secret('pii', 'second'::text)")
    older = db.one("SELECT sealed::bytea FROM envelope_private.secret WHERE version = 1")
    db.sql("UPDATE envelope_private.secret SET sealed = %s::bytea WHERE version = 2", older)
    refused(db.connect(), "SELECT envelope.secret('pii')::text", "XX001")


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("SELECT envelope.create_secret('taken')", "42710"),
        ("SELECT envelope.import_secret('taken', 'x'::text)", "42710"),
        ("SELECT envelope.import_secret('plain', 'x'::text)", "42710"),
        ("SELECT envelope.import_secret('new', ''::text)", "22023"),
        ("SELECT envelope.import_secret('new', NULL::bytea)", "22023"),
        ("SELECT envelope.import_secret('', 'x'::text)", "22023"),
        ("SELECT envelope.import_secret('new', 'x'::text, 'no such kek')", "42704"),
        ("SELECT envelope.replace_secret('plain')", "42704"),
        ("SELECT envelope.replace_secret('nobody')", "42704"),
        ("SELECT envelope.reseal_secret('nobody')", "42704"),
    ],
)
def test_refusals(db: Database, statement: str, sqlstate: str) -> None:
    db.sql("SELECT envelope.create_secret('taken'), envelope.create_key('plain')")
    refused(db.admin, statement, sqlstate)
    assert db.sql("SELECT name FROM envelope.secrets") == [("taken",)]


@pytest.mark.parametrize("call", ["create_secret('x')", "replace_secret('x')", "forbid_literal_keys()"])
def test_only_who_administers_keys_makes_secrets(alice: Any, call: str) -> None:
    refused(alice, f"SELECT envelope.{call}", "42501")


@pytest.fixture(scope="module")
def watched(stack: Stack) -> Iterator[Cluster]:
    """A cluster that writes down all it can."""
    settings = {
        **SETTINGS,
        "shared_preload_libraries": "auto_explain,pg_stat_statements",
        "log_min_duration_statement": "0",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_nested_statements": "on",
        "auto_explain.log_verbose": "on",
        "auto_explain.log_analyze": "on",
        "log_error_verbosity": "verbose",
        "debug_print_plan": "on",
        "pg_stat_statements.track": "all",
    }
    cluster = Cluster(folder(stack.home / "watched", 0o711), environment=stack.cluster.environment, settings=settings)
    cluster.start()
    with cluster.connect() as connection:
        connection.execute("CREATE EXTENSION pg_envelope CASCADE")
        connection.execute("CREATE EXTENSION pg_stat_statements")
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("forbidden", [False, True])
def test_nothing_shows_a_secret(watched: Cluster, forbidden: bool) -> None:
    name = f"leak_{forbidden}".lower()
    with watched.connect() as connection:
        connection.execute("SELECT envelope.create_secret(%s)", [name])
        connection.execute("SELECT envelope.forbid_literal_keys(%s)", [forbidden])
        connection.execute("CREATE TEMP TABLE t AS SELECT 'v' || g AS v FROM generate_series(1, 5) g")
        connection.execute("SET search_path = envelope_pgcrypto, pg_catalog")
        query = (
            f"SELECT pgp_sym_decrypt(pgp_sym_encrypt(v, envelope.secret('{name}')), envelope.secret('{name}')),"
            f" hmac(v, envelope.secret('{name}'), 'sha256'),"
            f" hmac(v, (SELECT envelope.secret('{name}')::text), 'sha256')"
            f" FROM t WHERE hmac(v, envelope.secret('{name}'), 'md5') <> 'x'"
        )
        shown = [connection.execute(f"EXPLAIN ({options}) {query}").fetchall() for options in ("VERBOSE", "ANALYZE")]
        assert len(connection.execute(query).fetchall()) == 5
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(f"SELECT pgp_sym_decrypt('garbage', envelope.secret('{name}'))")
        with pytest.raises(psycopg.Error) as other:
            connection.execute(f"SELECT encrypt('v', envelope.secret('{name}'), 'no such')")
        shown += [[str(error.value.diag.context), str(error.value)] for error in (caught, other)]
        shown.append(connection.execute("SELECT query FROM public.pg_stat_statements").fetchall())
        shown.append(connection.execute("SELECT query FROM pg_stat_activity").fetchall())
        secret = connection.execute("SELECT envelope.secret(%s)::text", [name]).fetchone()[0]
    everything = repr(shown) + watched.log.read_text()
    assert name in everything
    assert "hmac" in everything
    assert secret not in everything
    assert str(list(secret.encode()))[1:-1].replace(",", "") not in everything
    assert secret.encode().hex() not in everything
