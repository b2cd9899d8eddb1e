"""Fixtures of the sealed backups: a shop to back up, and a break-glass key that the broker knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.broker import toml
from stack.processes import private_file
from tests.fix_stack import Database
from tests.integration.fix_server_user import Run, folder, run

__all__ = ["folder", "glass", "run", "shop"]

MARKER = "ada-7Qx@example.org"


@pytest.fixture
def shop(db: Database) -> Database:
    """Protected values, grants to roles, and a named key that a role may have outside the server."""
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text, town text)")
    db.sql("INSERT INTO customer SELECT g, 'ada-7Qx@example.org', 'Town 8Zt' FROM generate_series(1, 500) g")
    db.sql("CALL envelope.protect('customer', '[\"email\"]', store => 'catalog')")
    db.sql("GRANT SELECT ON customer TO alice")
    db.sql("SELECT envelope.create_key('crm', store => 'catalog')")
    db.sql("SELECT envelope.grant_client_key('crm', 'bob'), envelope.grant_key('crm', 'alice')")
    return db


@pytest.fixture
def glass(db: Database, run: Run, folder: Path) -> Iterator[list[str]]:
    """The words that hand a command the break-glass key, whose public half the broker has."""
    broker, before = db.stack.broker, db.stack.broker.config()
    passphrase = folder / "passphrase"
    private_file(passphrase, "correct horse battery staple\n", db.stack.cluster.account)
    made = run("keys-backup", "init", "--out", folder / "glass", "--passphrase-file", passphrase)
    assert made.returncode == 0, made.stderr
    public = broker.config_file.with_name("break-glass.pub")
    public.write_bytes((folder / "glass/break-glass.pub").read_bytes())
    public.chmod(0o644)
    broker.configure({"broker": {"break_glass_public_key_file": str(public)}})
    broker.restart()
    try:
        yield ["--key", str(folder / "glass/break-glass.key"), "--passphrase-file", str(passphrase)]
    finally:
        private_file(broker.config_file, toml(before), broker.account)
        broker.restart()
