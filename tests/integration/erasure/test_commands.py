"""pg-envelope shred, erasures and verify-receipt, as people type them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stack.processes import run_as
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

from .conftest import entries_of
from .test_signing import signed

READ = "SELECT email FROM person"


@pytest.fixture
def shop(db: Database) -> Database:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('person', '["email"]', store => 'catalog')""")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c')")
    return db


def run(db: Database, *words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**db.stack.environ(), "PGDATABASE": db.name}
    command = [db.stack.broker.venv / "bin/pg-envelope", *words]
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)


def as_broker(db: Database, *words: str | Path) -> str:
    broker = db.stack.broker
    return run_as(broker.account, [broker.venv / "bin/pg-envelope", *words])


def test_shred_asks_first(shop: Database) -> None:
    assert run(shop, "shred", "person", "--reason", "r", text="n\n").returncode == 1
    assert shop.sql(READ) == [("a@b.c",)]
    done = run(shop, "shred", "person", "--reason", "r", text="y\n")
    assert (done.returncode, "are destroyed" in done.stdout) == (0, True), done
    assert failure(shop.admin, READ)[0] == "55000"


def test_shred_of_a_named_key(shop: Database) -> None:
    shop.sql("SELECT envelope.create_key('k', store => 'catalog')")
    assert run(shop, "shred", "k", "--as", "key", "--reason", "r", "--yes").returncode == 0
    assert shop.one("SELECT state FROM envelope.keys WHERE name = 'k'") == "destroyed"
    assert shop.sql(READ) == [("a@b.c",)]


def test_a_wrong_subject_is_not_in_the_servers_log(shop: Database) -> None:
    log = shop.stack.cluster.log
    done = run(shop, "shred", "person", "--subject-file", "-", "--reason", "r", "--yes", text="ada lovelace\n")
    assert (done.returncode, "one key for all its rows" in done.stderr) == (1, True), done
    assert "CALL envelope.shred" in log.read_text()
    assert "ada lovelace" not in log.read_text() + shop.stack.broker.audit_log.read_text()


def test_the_ledger_goes_to_another_broker(shop: Database, tmp_path: Path) -> None:
    run(shop, "shred", "person", "--reason", "ticket 7", "--yes")
    broker = shop.stack.broker
    home = broker.erasures.parent
    listed: list[dict[str, Any]] = json.loads(
        as_broker(shop, "erasures", "list", "--config", broker.config_file, "--json")
    )
    assert "ticket 7" in [row["reason"] for row in listed]
    said = as_broker(shop, "erasures", "export", "--config", broker.config_file, "--out", home / "copy")
    key = said.split("--public-key ")[1].strip()
    broker.stop()
    held = {path: path.read_bytes() for path in (broker.erasures, home / "erasures.jsonl.key")}
    try:
        for path in held:
            path.unlink()
        took = ("erasures", "import", home / "copy", "--config", broker.config_file, "--public-key")
        with pytest.raises(Exception, match="signature"):
            as_broker(shop, *took, "A" * 43 + "=")
        assert f"{len(listed)} entries taken over, 0 known" in as_broker(shop, *took, key)
        assert f"0 entries taken over, {len(listed)} known" in as_broker(shop, *took, key)
        broker.start()
        with pytest.raises(Exception, match="another broker runs"):
            as_broker(shop, *took, key)
        assert [entry["reason"] for entry in entries_of(shop)] == ["ticket 7"]
        assert shop.one("SELECT state FROM envelope.status() WHERE check_name = 'erasures'") == "ok"
    finally:
        broker.stop()
        for path, content in held.items():
            path.write_bytes(content)
            broker.account.own_tree(path)
        (home / "copy").unlink()
        broker.start()


def test_verify_trusts_the_databases_keys_only(shop: Database, tmp_path: Path) -> None:
    text, signature, public_key = signed(shop)
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps({"statement": text, "signature": signature, "public_key": public_key}))
    done = run(shop, "verify-receipt", file)
    assert (done.returncode, json.loads(done.stdout)["statement"]["what"]) == (0, "test")
    assert run(shop, "verify-receipt", file, "--public-key", public_key).returncode == 0
    assert run(shop, "verify-receipt", file, "--public-key", "A" * 43 + "=").returncode == 1
    file.write_text(json.dumps({"statement": text + " ", "signature": signature, "public_key": public_key}))
    assert run(shop, "verify-receipt", file).returncode == 1
    file.write_text("[]")
    assert run(shop, "verify-receipt", file).returncode == 1
