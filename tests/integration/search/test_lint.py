"""pg-envelope lint against a real server: the statements that it writes find the same rows, and by the index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from stack.processes import folder
from stack.stack import Stack
from tests.fix_stack import SETTINGS, Database, Fill
from tests.integration.client.test_commands import Command

TABLES = """
CREATE TABLE customer (id int PRIMARY KEY, email text UNIQUE, name text, born date);
CREATE TABLE invoice (id int PRIMARY KEY, mail text);
INSERT INTO customer SELECT i, CASE WHEN i % 10 > 0 THEN 'User' || i END, 'Zoë ' || i, date '2000-01-01' + i
    FROM generate_series(1, 300) i;
INSERT INTO invoice SELECT i, 'User' || i FROM generate_series(3, 20) i"""
PROTECT = (
    'CALL envelope.protect(\'customer\', \'{"email": {"search": [{"exact": {"key": "mail"}},'
    ' {"exact": {"normalize": "casefold", "as": "email_loose"}}]},'
    ' "name": {"search": {"exact": {"normalize": "unaccent", "as": "name_loose"}}}, "born": {"search": "exact"}}\')',
    'CALL envelope.protect(\'invoice\', \'{"mail": {"search": {"exact": {"key": "mail"}}}}\')',
)
STATEMENTS = [
    "SELECT id FROM customer WHERE email = 'User7' ORDER BY id",
    "SELECT id FROM customer WHERE email IN ('User7', 'User8', 'nobody') ORDER BY id",
    "SELECT id FROM customer WHERE email = ANY ('{User7,User8}') ORDER BY id",
    "SELECT count(*) FROM customer WHERE email <> 'User7'",
    "SELECT count(*) FROM customer WHERE email IS NULL",
    "SELECT count(DISTINCT email) FROM customer",
    "SELECT id FROM customer WHERE lower(email) = 'user7'",
    "SELECT id FROM customer WHERE name = 'Zoë 7'",
    "SELECT count(*) FROM customer WHERE NOT name = 'Zoë 7'",
    "SELECT id FROM customer WHERE born = '2000-01-08'",
    "SELECT c.id, i.id FROM customer c JOIN invoice i ON c.email = i.mail ORDER BY 1, 2",
    "SELECT id FROM invoice i WHERE EXISTS (SELECT FROM customer c WHERE c.email = i.mail) ORDER BY 1",
    "SELECT id FROM customer WHERE email IN (SELECT 'User' || g FROM generate_series(5, 8) g) ORDER BY id",
]


def fill(db: Database) -> None:
    """customer and invoice, each with search columns."""
    db.sql(TABLES)
    for statement in PROTECT:
        db.sql(statement)


@pytest.fixture
def shop(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def test_a_rewritten_statement_finds_the_same_rows(stack: Stack, shop: Database, tmp_path: Path) -> None:
    script = tmp_path / "all.sql"
    script.write_text(";\n".join(STATEMENTS))
    done = Command(stack, shop.name).run("lint", script, "--rewrite", "--json")
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    assert [int(row["place"].rsplit(":", 1)[1]) for row in found] == list(range(1, len(STATEMENTS) + 1))
    for statement, row in zip(STATEMENTS, found, strict=True):
        assert row["left"] == []
        assert row["statement"] != statement
        assert shop.sql(row["statement"]) == shop.sql(statement) != [], row["statement"]


def test_ci_needs_no_server(stack: Stack, shop: Database, tmp_path: Path) -> None:
    command, catalog, source = Command(stack, shop.name), tmp_path / "protected.json", tmp_path / "app.py"
    command.done("lint", "--save-catalog", catalog)
    source.write_text('QUERY = """\nSELECT * FROM customer\nWHERE email LIKE %s"""\n')
    nowhere = {"PGHOST": str(tmp_path), "PGPORT": "1"}
    done = command.run("lint", "--catalog", catalog, tmp_path, **nowhere)
    assert done.code == 1
    assert f"{source}:3" in done.out
    assert "customer.email" in done.out
    source.write_text("QUERY = 'SELECT * FROM customer WHERE id = %s'\n")
    done = command.run("lint", "--catalog", catalog, tmp_path, **nowhere)
    assert (done.code, done.out.strip()) == (0, "No statement decrypts a whole table.")


def test_a_role_without_the_right_is_told_so(stack: Stack, shop: Database, tmp_path: Path) -> None:
    script = tmp_path / "a.sql"
    script.write_text("DELETE FROM customer WHERE email = 'x'")
    done = Command(stack, shop.name, "alice").run("lint", script)
    assert (done.code, done.out) == (1, "")
    assert "permission denied for view columns" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is nothing to look at"),
        (("--catalog", "a.json", "--statements"), "--catalog asks none"),
        (("no-such-file.sql",), "No such file"),
        (("--statements",), "pg_stat_statements is not installed"),
    ],
)
def test_what_it_cannot_do_is_said(stack: Stack, shared_db: Database, words: tuple[str, ...], said: str) -> None:
    done = Command(stack, shared_db.name).run("lint", *words)
    assert done.code in (1, 2)
    assert said in done.err


@pytest.mark.parametrize("content", ["no json", "{}", '[{"schema": "public"}]', "[1]"])
def test_a_catalog_that_is_none(stack: Stack, shared_db: Database, tmp_path: Path, content: str) -> None:
    catalog = tmp_path / "catalog.json"
    catalog.write_text(content)
    done = Command(stack, shared_db.name).run("lint", "--catalog", catalog, tmp_path)
    assert done.code == 1
    assert "is no catalog" in done.err


@pytest.fixture(scope="module")
def counting(stack: Stack) -> Iterator[Cluster]:
    """A cluster that counts its statements."""
    settings = {**SETTINGS, "shared_preload_libraries": "pg_stat_statements"}
    cluster = Cluster(folder(stack.home / "counting", 0o711), environment=stack.cluster.environment, settings=settings)
    cluster.start()
    yield cluster
    cluster.stop()


def test_what_runs_today(stack: Stack, counting: Cluster, tmp_path: Path) -> None:
    with counting.connect() as server:
        server.execute("CREATE EXTENSION pg_envelope CASCADE")
        server.execute("CREATE EXTENSION pg_stat_statements")
        server.execute("CREATE TABLE member (id int PRIMARY KEY, email text)")
        server.execute("""CALL envelope.protect('member', '{"email": {"search": "exact"}}')""")
        for number in range(3):
            server.execute("SELECT id FROM member WHERE email = %s", [f"secret {number}"])
        server.execute("SELECT id FROM member WHERE email_search = 'x'")
    command = Command(stack, "postgres")
    environment = {**command.environment, **counting.environ("postgres", "postgres")}
    done = command.run("lint", "--statements", "--json", **environment)
    assert done.code == 1, done.err
    (row,) = json.loads(done.out)
    assert (row["column"], row["can_be_rewritten"]) == ("member.email", True)
    assert "3 calls" in row["place"]
    assert "secret" not in done.out
    with counting.connect() as server:
        said = server.execute('SELECT calls, "column", what, instead, query FROM envelope.slow_reads()').fetchall()
    assert said == [(3, row["column"], row["what"], row["instead"], "SELECT id FROM member WHERE email = $1")]


def test_slow_reads_needs_the_extension_and_a_superuser(db: Database) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="pg_stat_statements is not installed"):
        db.sql("SELECT * FROM envelope.slow_reads()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT * FROM envelope.slow_reads()", user="alice")
