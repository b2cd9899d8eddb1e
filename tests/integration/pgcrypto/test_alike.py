"""envelope_pgcrypto against pgcrypto itself: the same catalog rows, answers, notices and errors."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

from .conftest import PASS, Gpg
from .statements import WITH_KEYS, WITHOUT_KEYS

OURS, THEIRS = "envelope_pgcrypto", "original"
CATALOG = """
SELECT p.proname, oidvectortypes(p.proargtypes), pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
    p.proallargtypes::regtype[]::text, p.proargmodes::text, p.proargnames, p.pronargdefaults, p.provolatile,
    p.proisstrict, p.proparallel, p.proleakproof, p.prosecdef, p.procost, p.prorows, p.proretset, p.prokind,
    p.provariadic, p.prosupport::text, p.proconfig, p.protrftypes, l.lanname, p.prosrc, p.probin
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = %s::regnamespace ORDER BY p.proname, 2"""


def test_same_functions(both: Database) -> None:
    theirs = both.sql(CATALOG, THEIRS)
    assert len(theirs) >= 36
    assert both.sql(CATALOG, OURS) == theirs


@pytest.mark.parametrize("role", ["postgres", "alice"])
def test_same_rights(both: Database, role: str) -> None:
    query = "SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc WHERE pronamespace = %s::regnamespace"
    assert both.one(query, OURS, user=role) is both.one(query, THEIRS, user=role) is True


def outcome(connection: psycopg.Connection[Any], schema: str, expression: str) -> tuple[object, ...]:
    """Everything that a client sees of a statement that has this schema in front of its search_path."""
    notices: list[tuple[str | None, str | None]] = []

    def listen(report: psycopg.errors.Diagnostic) -> None:
        notices.append((report.severity, report.message_primary))

    connection.execute(f"SET search_path = {schema}, keys, pg_catalog")
    connection.add_notice_handler(listen)
    try:
        cursor = connection.execute(f"SELECT {expression}")
        assert cursor.description is not None
        return "rows", cursor.description[0].type_code, cursor.description[0].name, cursor.fetchall(), notices
    except psycopg.Error as error:
        report = error.diag
        texts = (report.message_primary, report.message_detail, report.message_hint, report.context)
        return "error", error.sqlstate, *(text and text.replace(schema, "SCHEMA") for text in texts), notices
    finally:
        connection.remove_notice_handler(listen)


def differing(connection: psycopg.Connection[Any], expressions: list[str]) -> list[object]:
    found = []
    for expression in expressions:
        theirs, ours = (outcome(connection, schema, expression) for schema in (THEIRS, OURS))
        if theirs != ours:
            found.append((expression, theirs, ours))
    return found


def test_same_answers(both: Database) -> None:
    assert len(WITHOUT_KEYS) > 500
    connection = both.connect("alice")
    connection.execute("SET client_min_messages = notice")
    assert differing(connection, WITHOUT_KEYS) == []


@pytest.fixture(scope="module")
def with_keys(both: Database, gpg: Gpg) -> Database:
    """SQL functions public(name), secret(name) and passphrase() give GnuPG's keys."""
    both.sql("CREATE SCHEMA IF NOT EXISTS keys; GRANT USAGE ON SCHEMA keys TO PUBLIC")
    both.sql("CREATE TABLE IF NOT EXISTS keys.key (name text PRIMARY KEY, public bytea, secret bytea)")
    both.sql("GRANT SELECT ON keys.key TO PUBLIC")
    for name in ("rsa", "locked", "elgamal", "signer"):
        row = name, gpg.public(name), gpg.secret(name, PASS if name == "locked" else "")
        both.sql("INSERT INTO keys.key VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", *row)
    for column in ("public", "secret"):
        body = f"SELECT {column} FROM keys.key WHERE key.name = $1"
        both.sql(
            f"CREATE OR REPLACE FUNCTION keys.{column}(text) RETURNS bytea LANGUAGE sql STABLE BEGIN ATOMIC {body}; END"
        )
    both.sql(f"CREATE OR REPLACE FUNCTION keys.passphrase() RETURNS text LANGUAGE sql RETURN '{PASS}'")
    return both


def test_same_answers_with_public_keys(with_keys: Database) -> None:
    assert len(WITH_KEYS) > 100
    connection = with_keys.connect("alice")
    connection.execute("SET client_min_messages = notice")
    assert differing(connection, WITH_KEYS) == []


def test_some_statements_answer_and_some_fail(with_keys: Database) -> None:
    """So that `alike` cannot come from every statement failing alike."""
    connection = with_keys.connect("alice")
    kinds = [outcome(connection, OURS, expression)[0] for expression in [*WITHOUT_KEYS, *WITH_KEYS]]
    assert kinds.count("rows") > 400
    assert kinds.count("error") > 100


@pytest.mark.parametrize(("writer", "reader"), [(OURS, THEIRS), (THEIRS, OURS)])
@pytest.mark.parametrize(
    "pair",
    [
        "{r}.pgp_sym_decrypt({w}.pgp_sym_encrypt('Zoë', 'k'), 'k')",
        "{r}.pgp_sym_decrypt({w}.pgp_sym_encrypt('Zoë', 'k', 'cipher-algo=aes256, compress-algo=2'), 'k')",
        "convert_from({r}.decrypt({w}.encrypt('\\x5a6fc3ab', 'k', 'aes'), 'k', 'aes'), 'UTF8')",
        "convert_from({r}.decrypt_iv({w}.encrypt_iv('\\x5a6fc3ab', 'k', 'iv', '3des'), 'k', 'iv', '3des'), 'UTF8')",
        "{r}.pgp_pub_decrypt({w}.pgp_pub_encrypt('Zoë', keys.public('rsa')), keys.secret('rsa'))",
        "{r}.pgp_pub_decrypt({w}.pgp_pub_encrypt('Zoë', keys.public('elgamal')), keys.secret('elgamal'))",
        "convert_from({r}.dearmor({w}.armor('\\x5a6fc3ab')), 'UTF8')",
    ],
)
def test_one_reads_what_the_other_wrote(with_keys: Database, pair: str, writer: str, reader: str) -> None:
    assert with_keys.one("SELECT " + pair.format(w=writer, r=reader)) == "Zoë"


def test_password_hash_of_one_verifies_with_the_other(both: Database) -> None:
    made = both.one(f"SELECT {OURS}.crypt('pw', {THEIRS}.gen_salt('bf', 4))")
    assert both.one(f"SELECT {THEIRS}.crypt('pw', %s::text)", made) == made


def test_what_a_library_lacks_is_left_out_with_a_notice(db: Database) -> None:
    """As on a server whose pgcrypto is older than its version says."""
    view = db.one("SELECT pg_get_viewdef('envelope_private.pgcrypto_function'::regclass)").rstrip(";")
    lacking = "SELECT 'absent', 'text, text', 'text', 'no_such_symbol', 'IMMUTABLE STRICT', '-k', 0"
    db.sql(f"CREATE OR REPLACE VIEW envelope_private.pgcrypto_function AS {view} UNION ALL {lacking}")
    notices: list[str | None] = []
    db.admin.add_notice_handler(lambda report: notices.append(report.message_primary))
    before = db.sql(CATALOG, OURS)
    db.sql("SELECT envelope_private.declare_pgcrypto()")
    assert notices == ["this server's pgcrypto has no absent(text, text)"]
    assert db.sql(CATALOG, OURS) == before


def test_the_extension_pgcrypto_is_not_needed(db: Database) -> None:
    assert db.sql("SELECT FROM pg_extension WHERE extname = 'pgcrypto'") == []
    assert db.one(f"SELECT {OURS}.armor('x')", user="alice").startswith("-----BEGIN PGP MESSAGE-----")
