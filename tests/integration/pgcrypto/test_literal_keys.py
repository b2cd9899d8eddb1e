"""envelope.forbid_literal_keys: names go on, literal keys are refused, also after a restore."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import psycopg
import pytest

from tests.fix_stack import NAMES, Database

from .conftest import PASS, RAW

LITERALS = [
    "hmac('v', 'k', 'md5')",
    "hmac('v'::bytea, 'k'::bytea, 'md5')",
    "encrypt('v', 'k', 'aes')",
    "decrypt('v', 'k', 'aes')",
    "encrypt_iv('v', 'k', 'i', 'aes')",
    "decrypt_iv('v', 'k', 'i', 'aes')",
    "pgp_sym_encrypt('v', 'k')",
    "pgp_sym_encrypt('v', 'k', '')",
    "pgp_sym_encrypt_bytea('v', 'k')",
    "pgp_sym_encrypt_bytea('v', 'k', '')",
    "pgp_sym_decrypt('v', 'k')",
    "pgp_sym_decrypt('v', 'k', '')",
    "pgp_sym_decrypt_bytea('v', 'k')",
    "pgp_sym_decrypt_bytea('v', 'k', '')",
    "pgp_pub_decrypt('v', 'k')",
    "pgp_pub_decrypt('v', 'k', '')",
    "pgp_pub_decrypt('v', envelope.secret('raw'), 'k')",
    "pgp_pub_decrypt('v', envelope.secret('raw'), 'k', '')",
    "pgp_pub_decrypt_bytea('v', 'k')",
    "pgp_pub_decrypt_bytea('v', 'k', '')",
    "pgp_pub_decrypt_bytea('v', envelope.secret('raw'), 'k', '')",
    f"hmac('v', '{PASS}', 'md5')",
]
STILL = [
    "digest('v', 'md5')",
    "crypt('v', gen_salt('md5'))",
    "armor('v')",
    "hmac('v', envelope.secret('pass'), 'md5')",
    "hmac('v', (SELECT envelope.secret('pass')::text), 'md5')",
    "encrypt('v', envelope.secret('raw'), 'aes')",
    "decrypt_iv(encrypt_iv('v', envelope.secret('raw'), 'i', 'aes'), envelope.secret('raw'), 'i', 'aes')",
    "pgp_sym_decrypt(pgp_sym_encrypt('v', envelope.secret('pass')), envelope.secret('pass'))",
    "hmac('v', NULL, 'md5')",
]


@pytest.fixture
def strict(db: Database) -> Database:
    db.sql("SELECT envelope.import_secret('pass', %s::text), envelope.import_secret('raw', %s::bytea)", PASS, RAW)
    db.sql("SELECT envelope.grant_key('pass', 'alice'), envelope.grant_key('raw', 'alice')")
    db.sql("SELECT envelope.forbid_literal_keys()")
    return db


@pytest.fixture
def user(strict: Database) -> psycopg.Connection[Any]:
    connection = strict.connect("alice")
    connection.execute("SET search_path = envelope_pgcrypto")
    return connection


def refusal(connection: psycopg.Connection[Any], expression: str) -> str:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        connection.execute(f"SELECT {expression}")
    report = caught.value.diag
    assert "envelope.secret(" in (report.message_hint or "")
    return f"{report.message_primary} {report.message_detail} {report.context}"


def test_literal_keys_are_refused_everywhere(user: psycopg.Connection[Any]) -> None:
    for expression in LITERALS:
        shown = refusal(user, expression)
        assert "literal keys are forbidden" in shown, expression
        assert PASS not in shown


def test_bound_keys_are_refused(user: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.execute("SELECT hmac('v', %s::text, 'md5')", [PASS])


def test_all_else_goes_on(user: psycopg.Connection[Any]) -> None:
    for expression in STILL:
        user.execute(f"SELECT {expression}")


def test_a_name_used_earlier_does_not_open_the_door(user: psycopg.Connection[Any]) -> None:
    user.execute("SELECT hmac('v', envelope.secret('pass'), 'md5')")
    refusal(user, f"hmac('v', '{PASS}', 'md5')")


def test_what_another_role_used_by_name_is_no_oracle(strict: Database, user: psycopg.Connection[Any]) -> None:
    """A SECURITY DEFINER function lends its owner's secret; its caller cannot try guesses at it."""
    strict.sql(
        "CREATE FUNCTION public.lent() RETURNS bytea LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog"
        " AS $$ SELECT envelope_pgcrypto.hmac('v', envelope.secret('pass'), 'md5') $$"
    )
    with strict.connect("bob") as bob:
        bob.execute("BEGIN")
        bob.execute("SELECT public.lent()")
        refusal(bob, f"envelope_pgcrypto.hmac('v', '{PASS}', 'md5')")


def test_errors_stay_as_pgcrypto_has_them(user: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.Error) as caught:
        user.execute("SELECT encrypt('v', envelope.secret('raw'), 'no such')")
    report = caught.value.diag
    assert (report.message_primary, report.context) == ('Cannot use "no such": No such cipher algorithm', None)


def test_a_cursor_keeps_its_key_from_fetch_to_fetch(user: psycopg.Connection[Any]) -> None:
    user.execute("BEGIN")
    user.execute(
        "DECLARE c CURSOR FOR SELECT hmac(g::text, (SELECT envelope.secret('pass')::text), 'md5')"
        " FROM generate_series(1, 3) g"
    )
    assert [len(user.execute("FETCH c").fetchall()) for _ in range(3)] == [1, 1, 1]
    user.execute("COMMIT")


def test_a_procedure_that_commits_keeps_its_key(user: psycopg.Connection[Any]) -> None:
    user.execute(
        "DO $$ BEGIN FOR i IN 1..3 LOOP PERFORM hmac(i::text, envelope.secret('pass'), 'md5'); COMMIT; END LOOP; END $$"
    )


def test_the_functions_behind_cannot_be_named(strict: Database, user: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.execute("SELECT envelope_pgcrypto_direct.hmac('v', 'k', 'md5')")
    strict.sql("CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t OWNER TO alice")
    strict.sql("CALL envelope.protect('t', '[\"v\"]')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.execute("SELECT envelope_pgcrypto_direct.hmac('v', 'k', 'md5')")


def test_prepared_statements_follow_at_once(strict: Database, user: psycopg.Connection[Any]) -> None:
    strict.sql("SELECT envelope.forbid_literal_keys(false)")
    user.execute("PREPARE p AS SELECT hmac($1, 'k', 'md5')")
    user.execute("EXECUTE p('v')")
    strict.sql("SELECT envelope.forbid_literal_keys()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.execute("EXECUTE p('v')")


CATALOG = """
SELECT proname, oidvectortypes(proargtypes), provolatile, proparallel, prosrc, proacl::text FROM pg_proc
WHERE pronamespace = 'envelope_pgcrypto'::regnamespace ORDER BY 1, 2"""


def test_false_puts_everything_back(db: Database) -> None:
    before = db.sql(CATALOG)
    db.sql("SELECT envelope.forbid_literal_keys(true)")
    assert db.sql(CATALOG) != before
    db.sql("SELECT envelope.forbid_literal_keys(false)")
    assert db.sql(CATALOG) == before


@pytest.mark.parametrize("kind", ["plain", "custom"])
def test_a_restored_dump_forbids_them_too(strict: Database, kind: str) -> None:
    cluster, target = strict.stack.cluster, f"test_{os.getpid()}_{next(NAMES)}"
    environment = {"PATH": os.environ["PATH"], **cluster.environ(strict.name)}
    dump = subprocess.run(
        [cluster.bindir / "pg_dump", f"--format={kind}"], env=environment, capture_output=True, check=True
    ).stdout
    assert PASS.encode() not in dump
    reader = ["psql", "-qX", "-v", "ON_ERROR_STOP=1"] if kind == "plain" else ["pg_restore", "--exit-on-error"]
    strict.sql(f"CREATE DATABASE {target} TEMPLATE template0")
    restored = Database(strict.stack, target)
    try:
        command = [cluster.bindir / reader[0], *reader[1:], "-d", target]
        subprocess.run(command, env=environment, input=dump, capture_output=True, check=True)
        connection = restored.connect("alice")
        connection.execute("SET search_path = envelope_pgcrypto")
        refusal(connection, LITERALS[0])
        for expression in STILL:
            connection.execute(f"SELECT {expression}")
        assert restored.one("SELECT envelope.secret('pass')::text") == PASS
    finally:
        restored.close()
        strict.sql(f"DROP DATABASE {target} WITH (FORCE)")
