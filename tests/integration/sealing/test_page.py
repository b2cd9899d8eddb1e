"""The Python in README and docs/client.md does what the pages say, at a real door and on a real table."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tests.integration.sealing.fix_door import DoorOfTests

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Models of Django and SQLAlchemy are parts of applications: tests/integration/orms runs them within such.
MODELS = ("models.Model", "Encrypted(")
DSN = "host=db.example dbname=shop user=app"
FILES = ("crm.pem", "crm.key", "door-ca.pem")


@pytest.mark.parametrize("page", ["README.md", "docs/client.md"])
def test_a_page_s_python_runs(door: DoorOfTests, page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    db = door.db
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('customer', '{"email": {"search": "exact"}}')""")
    db.sql("SELECT envelope.create_key('crm')")
    door.grant("customer", "email")
    email = db.one("SELECT field_uuid FROM envelope.columns")
    db.sql("SELECT envelope.import_secret('stripe', 'sk_live_1'::text)")
    search = db.one("SELECT envelope.grant_client_search('customer', 'email_search', 'alice')")
    named = [db.one("SELECT envelope.grant_client_key(%s, 'alice')", name) for name in ("crm", "stripe")]
    door.allow(email, search, *named)
    (tmp_path / "scan.pdf").write_bytes(b"the end of it" * 9)
    places = (door.certificate, door.certificate.with_suffix(".key"), door.directory / "ca.pem")
    for name, place in zip(FILES, places, strict=True):
        (tmp_path / name).write_bytes(place.read_bytes())
    monkeypatch.chdir(tmp_path)
    environment = {**db.stack.environ(), "PGDATABASE": db.name, "PGUSER": "alice"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    blocks = [block for block in BLOCK.findall((ROOT / page).read_text()) if not any(word in block for word in MODELS)]
    assert blocks
    names: dict[str, object] = {"psycopg": psycopg}
    for block in blocks:
        exec(block.replace(DSN, "").replace("keys.example:9465", door.address), names)
    for name in ("keys", "broker"):
        names[name].close()  # type: ignore[attr-defined]
