"""The Python of docs/orms.md and README, and the sample application, do what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from sqlalchemy import inspect

from tests.fix_stack import Database
from tests.integration.orms import fix_shop

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
URL = "postgresql+psycopg://app@db.example/shop"
EXAMPLE = ROOT / "docs" / "examples" / "shop.py"
TABLE = """
CREATE TABLE customer (id serial PRIMARY KEY, login text UNIQUE, email text UNIQUE, born date);
GRANT ALL ON customer, customer_id_seq TO alice"""
# What the example says that a superuser has done.
CALLS = re.compile(r"^    (CALL .*;)$", re.MULTILINE)


def shop(db: Database) -> str:
    db.sql(TABLE)
    for call in CALLS.findall(EXAMPLE.read_text()):
        db.sql(call)
    return fix_shop.url(db, "psycopg").render_as_string()


def test_the_page_s_python_runs(db: Database) -> None:
    url = shop(db)
    block, *_ = BLOCK.findall((ROOT / "docs" / "orms.md").read_text())
    assert block in (ROOT / "README.md").read_text()
    names: dict[str, object] = {}
    exec(block.replace(URL, url), names)
    engine = names["engine"]
    found = inspect(engine)
    assert found is not None
    assert found.get_table_names() == ["customer"]
    engine.dispose()  # type: ignore[attr-defined]


def test_the_other_blocks_are_parts_of_the_sample_applications() -> None:
    """tests/integration/orms/test_examples.py runs them."""
    files = [path.read_text() for path in EXAMPLE.parent.rglob("*.py")]
    blocks = [
        block for block in BLOCK.findall((ROOT / "docs" / "orms.md").read_text())[1:] if "Encrypted(" not in block
    ]
    blocks += [block for block in BLOCK.findall((ROOT / "README.md").read_text()) if "models.Model" in block]
    assert len(blocks) == 5
    for block in blocks:
        assert any(block in text or textwrap.indent(block, "    ") in text for text in files), block


def test_the_sample_application_runs(db: Database) -> None:
    done = subprocess.run([sys.executable, EXAMPLE, shop(db)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ada 2\n", "")
    assert db.sql("SELECT login, email FROM customer ORDER BY 1") == [
        ("ada", "countess@example.org"),
        ("alan", "alan@example.org"),
    ]
    assert db.one("SELECT strpos(email::text, 'ada') FROM customer_encrypted LIMIT 1") == 0
