"""The sample applications, from `pip install` into an environment of their own to the envelope on the disk."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.orms import fix_shop
from tests.integration.sealing.conftest import door, door_place, folder, run
from tests.integration.sealing.fix_door import DoorOfTests

__all__ = ["door", "door_place", "folder", "run"]

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "examples"
DEV = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
WEB = [pin for pin in DEV if pin.startswith(("fastapi==", "uvicorn=="))]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the client, as its users install it."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin/python", "-m", "pip", "-q", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, f"{ROOT}[client,django,sqlalchemy]", *WEB], check=True)
    return home / "bin/python"


def environment(db: Database) -> dict[str, str]:
    return {**os.environ, **db.stack.environ(), "PGDATABASE": db.name}


def manage(python: Path, db: Database, *command: str) -> str:
    done = subprocess.run(
        [python, "-W", "error", "manage.py", *command],
        cwd=EXAMPLES / "django",
        env=environment(db),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_django(python: Path, db: Database) -> None:
    manage(python, db, "migrate")
    assert "CALL envelope.protect('\"shop_customer\"'::regclass" in manage(python, db, "sqlmigrate", "shop", "0002")
    assert "No changes detected" in manage(python, db, "makemigrations", "--check", "--dry-run")
    assert "Ran 5 tests" in manage(python, db, "test", "--noinput")
    code = "from shop.models import Customer; print(Customer.objects.create(login='ada', email='ada@example.org').pk)"
    manage(python, db, "shell", "-c", code)
    assert db.one("SELECT email FROM shop_customer") == "ada@example.org"
    assert db.one("SELECT email::text FROM shop_customer_encrypted").startswith("\\xe1")
    manage(python, db, "migrate", "shop", "0001")
    assert db.one("SELECT email FROM shop_customer") == "ada@example.org"
    assert db.one("SELECT to_regclass('shop_customer_encrypted')") is None


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def listens(path: Path) -> bool:
    """Tells whether a server takes connections there. The socket is in its place a moment before that."""
    with closing(UnixConnection(path)) as connection:
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


@contextmanager
def served(python: Path, db: Database, path: Path, example: str, **variables: str) -> Iterator[Path]:
    """Runs an application of FastAPI until it answers at a socket."""
    url = fix_shop.url(db, "psycopg", "app").render_as_string()
    command = [python, "-m", "uvicorn", "--uds", path, "--log-level", "warning", "app:app"]
    variables = {**environment(db), **variables, "DATABASE_URL": url}
    server = subprocess.Popen(command, cwd=EXAMPLES / example, env=variables)
    try:
        while not listens(path):
            assert server.poll() is None
            time.sleep(0.05)
        yield path
    finally:
        server.terminate()
        server.wait()


def asked(path: Path, method: str, url: str, body: object = None) -> tuple[int, object]:
    with closing(UnixConnection(path)) as connection:
        connection.request(method, url, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if answer.status != 500 else content


@pytest.fixture
def app(db: Database) -> Iterator[None]:
    db.sql("CREATE ROLE app LOGIN")
    yield
    db.sql("DROP OWNED BY app; DROP ROLE app")


def used(path: Path) -> None:
    """What a client of either application does and sees."""
    for email in ("ada@example.org", "countess@example.org"):
        given = {"email": email, "born": "1815-12-10"}
        assert asked(path, "PUT", "/customers/ada", given) == (200, None)
    found = asked(path, "GET", "/customers?email=countess@example.org")
    assert found == (200, {"login": "ada", "email": "countess@example.org", "born": "1815-12-10"})
    assert asked(path, "GET", "/customers?email=ada@example.org")[0] == 404


@pytest.mark.usefixtures("app")
def test_fastapi(python: Path, db: Database, tmp_path: Path) -> None:
    db.sql((EXAMPLES / "fastapi/protect.sql").read_text())
    with served(python, db, tmp_path / "http", "fastapi") as path:
        used(path)
    assert db.one("SELECT email FROM customer") == "countess@example.org"
    assert db.one("SELECT email::text FROM customer_encrypted").startswith("\\xe1")


@pytest.mark.usefixtures("app")
def test_fastapi_with_values_that_the_server_never_sees(python: Path, door: DoorOfTests, tmp_path: Path) -> None:
    db, certificate = door.db, door.certificate
    db.sql((EXAMPLES / "fastapi_sealed/protect.sql").read_text())
    door.allow(*(uuid for (uuid,) in db.sql("SELECT field_uuid FROM envelope.clients WHERE role = 'app'::regrole")))
    variables = {
        "PG_ENVELOPE_BROKER": f"tls://{door.address}",
        "PG_ENVELOPE_CERTIFICATE": str(certificate),
        "PG_ENVELOPE_CERTIFICATE_KEY": str(certificate.with_suffix(".key")),
        "PG_ENVELOPE_CA_FILE": str(door.directory / "ca.pem"),
    }
    with served(python, db, tmp_path / "http", "fastapi_sealed", **variables) as path:
        used(path)
        given = {"email": "COUNTESS@example.org", "born": None}
        assert asked(path, "PUT", "/customers/other", given)[0] == 500, "the address is another one's, at the commit"
        assert asked(path, "GET", "/customers?email=Countess@Example.org")[0] == 200
        # The server writes another customer, whom the application finds.
        db.sql("INSERT INTO customer VALUES (gen_random_uuid(), 'alan', 'alan@example.org', NULL)")
        found = asked(path, "GET", "/customers?email=ALAN@example.org")
        assert found == (200, {"login": "alan", "email": "alan@example.org", "born": None})
    ada = "FROM customer WHERE email_search = 'countess@example.org'::text"
    assert db.sql(f"SELECT login, email, born {ada}") == [("ada", "countess@example.org", dt.date(1815, 12, 10))]
    assert db.one("SELECT email::text FROM customer_encrypted").startswith("\\xe1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT email FROM customer", user="app")
