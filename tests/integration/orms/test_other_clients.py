"""Raw drivers, and clients of other languages, see of a protected table what they see of a plain one.

What differs is what docs/orms.md lists. A client that is not installed, and cannot be, is skipped.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fix_stack import Database

CLIENTS = Path(__file__).parent / "clients"
PAGE = Path(__file__).parents[3] / "docs" / "orms.md"
JDBC = Path("/usr/share/java/postgresql.jar")
TABLES = """
CREATE TABLE customer (
    id serial PRIMARY KEY, login text NOT NULL UNIQUE, email text, born date, visits integer NOT NULL DEFAULT 0);
CREATE TABLE purchase (id serial PRIMARY KEY, customer_id integer REFERENCES customer, total numeric)"""
PROTECT = """CALL envelope.protect('customer', '{"email": {"search": "exact"}, "born": {}}')"""
Seen = dict[str, dict[str, Any]]
See = Callable[..., Seen]


def environment(db: Database) -> dict[str, str]:
    place = {name: value for name, value in db.stack.environ().items() if name in ("PGHOST", "PGPORT")}
    return {**os.environ, **place, "PGDATABASE": db.name, "PGUSER": "postgres"}


def printed(db: Database, line: list[Any], folder: Path, **more: str) -> Seen:
    done = subprocess.run(
        line, cwd=folder, env={**environment(db), **more}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: Seen = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suites and the packages of package.json."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node with npm")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(CLIENTS, folder, dirs_exist_ok=True)
    line = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip("npm cannot install the clients")
    return folder


@pytest.fixture
def tcp(db: Database) -> Iterator[dict[str, str]]:
    """A role for a client that knows no Unix sockets."""
    password = secrets.token_hex(16)
    db.sql(f"CREATE ROLE client SUPERUSER LOGIN PASSWORD '{password}'")
    yield {"PGUSER": "client", "PGPASSWORD": password}
    db.sql("DROP OWNED BY client; DROP ROLE client")


# The operations that each row of the page's tables is about.
ROWS: dict[str, dict[str, set[str]]] = {
    "psycopg": {
        "`SELECT *`": {"star"},
        "`ON CONFLICT (login) DO UPDATE`, `ON CONFLICT (login) DO NOTHING`": {"upsert", "ignore_target"},
        "`GROUP BY c.id`": {"group"},
        "`TRUNCATE`": {"truncate"},
        "`COPY customer TO`": {"copy_out"},
        "`WHERE CURRENT OF` a cursor": {"current"},
    },
    "asyncpg": {
        "`SELECT *`": {"star"},
        "`ON CONFLICT (login) DO UPDATE`, `ON CONFLICT (login) DO NOTHING`": {"upsert", "upsert_many", "ignore_target"},
        "`GROUP BY c.id`": {"group"},
        "`TRUNCATE`": {"truncate"},
        "`copy_from_table`": {"copy_out"},
    },
    "pg": {
        "`SELECT *`": {"star"},
        "`ON CONFLICT (login) DO UPDATE`": {"upsert"},
        "`GROUP BY c.id`": {"group"},
        "`TRUNCATE`": {"truncate"},
    },
    "knex": {
        "`select()` without columns": {"star"},
        '`.onConflict("login").merge()`, `.onConflict("login").ignore()`': {"upsert", "ignore_target"},
        '`.groupBy("customer.id")`': {"group"},
        "`.truncate()`": {"truncate"},
    },
    "Sequelize": {
        "`upsert`, `bulkCreate(..., {updateOnDuplicate})`": {"upsert", "bulk_upsert"},
        '`group: ["Customer.id"]`': {"group"},
        "`destroy({truncate: true})`": {"truncate"},
    },
    "TypeORM": {"`upsert`": {"upsert"}, '`.groupBy("c.id")`': {"group"}, "`clear()`": {"truncate"}},
    "JDBC": {
        "`SELECT *`": {"star"},
        "`ON CONFLICT (login) DO UPDATE`": {"upsert"},
        "`GROUP BY c.id`": {"group"},
        "`TRUNCATE`": {"truncate"},
        "a result set with `CONCUR_UPDATABLE`": {"updatable"},
    },
    "Active Record": {
        "`create`, `find`, `update`, `destroy`, `joins`, `includes`, `find_each`, `last`, `lock!`, `primary_key`": {
            *("insert", "find", "update", "delete", "join", "include", "batches", "last", "lock", "key", "roll_back")
        },
        "`attributes`": {"star"},
        "`insert_all(..., unique_by:)`, `upsert_all(..., unique_by:)`": {"ignore_target", "upsert"},
        '`group("customer.id")`': {"group"},
        "`TRUNCATE`": {"truncate"},
    },
}


def test_the_page_has_these_rows() -> None:
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines()]
    rows = [(cells[0], cells[1]) for cells in lines if len(cells) == 3 and cells[0] in ROWS and cells[2] != "nothing"]
    assert rows == [(client, use) for client, uses in ROWS.items() for use in uses]


def compared(db: Database, client: str, see: See) -> None:
    """The client's program runs on the plain table, on the protected one, and there again with the page's changes."""
    db.sql(TABLES)
    plain = see()
    assert {name for name, outcome in plain.items() if "error" in outcome} == {"duplicate"}
    db.sql(PROTECT)
    db.sql("CALL envelope.allow_upsert('customer')")
    protected = see()
    differ = {name for name in plain if protected[name] != plain[name]}
    assert differ == set().union(*ROWS[client].values()), {name: (plain[name], protected[name]) for name in differ}
    assert see(CHANGED="yes") == plain
    assert db.one("SELECT count(*) FROM customer_encrypted WHERE strpos(email::text, 'example') > 0") == 0


@pytest.mark.parametrize("client", ["psycopg", "asyncpg"])
def test_raw_driver(db: Database, client: str) -> None:
    line = [sys.executable, f"raw_{client}.py"]
    compared(db, client, lambda **more: printed(db, line, CLIENTS, **more))


@pytest.mark.parametrize("client", ["pg", "knex", "Sequelize", "TypeORM"])
def test_node(db: Database, node: Path, client: str) -> None:
    compared(db, client, lambda **more: printed(db, ["node", f"{client.lower()}.mjs"], node, **more))


def test_jdbc(db: Database, tcp: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("javac") is None or not JDBC.exists():
        pytest.skip("there is no JDK, or no JDBC driver: Debian's libpostgresql-jdbc-java")
    subprocess.run(["javac", "-d", tmp_path, CLIENTS / "Jdbc.java"], check=True, timeout=120)
    line = ["java", "-cp", f"{JDBC}:{tmp_path}", "Jdbc"]
    compared(db, "JDBC", lambda **more: printed(db, line, CLIENTS, **tcp, **more))


def test_active_record(db: Database) -> None:
    line = ["ruby", "-e", "require 'active_record'; require 'pg'"]
    if shutil.which("ruby") is None or subprocess.run(line, capture_output=True, check=False).returncode:
        pytest.skip("there is no Active Record: Debian's ruby-activerecord and ruby-pg")
    compared(db, "Active Record", lambda **more: printed(db, ["ruby", "active_record.rb"], CLIENTS, **more))
