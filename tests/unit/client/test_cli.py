"""The command as a process: help, usage errors, and errors without a server."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pg_envelope.broker.settings import config
from tests import fix_forked

Done = subprocess.CompletedProcess[str]


def run(*arguments: object, **environment: str) -> Done:
    kept = {"PATH": os.environ["PATH"], "COLUMNS": "200"}
    return fix_forked.run(Path(sys.executable), ["-c", *arguments], {**kept, **environment})


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """libpq's environment for a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    return {"PGHOST": "127.0.0.1", "PGPORT": str(port), "HOME": str(tmp_path)}


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text("correct horse battery staple\n")
    return path


def test_version() -> None:
    assert run("--version").stdout.startswith("pg-envelope ")


@pytest.mark.parametrize(
    "slow", ["hvac", "psycopg", "tomlkit", "requests", "cryptography", "pg_envelope.broker", "rich"]
)
def test_help_loads_nothing_slow(slow: str) -> None:
    probe = f"import sys; import pg_envelope_client.cli; sys.exit({slow!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["protect", "customer"],
        ["protect", "customer", "email:suite=9"],
        ["protect", "customer", "email", "--online", "--max-lag-mb", "-1"],
        ["unprotect", "customer", "--online", "--max-lag-mb", "much"],
        ["reencrypt", "customer", "--batch-size", "0"],
        ["reencrypt", "customer", "--jobs", "0"],
        ["reencrypt", "customer", "--pause", "-1"],
        ["pause"],
        ["key", "create", "k", "--store", "floppy"],
        ["key", "rotate", "k", "--as", "column"],
        ["key", "grant", "k"],
        ["broker"],
        ["broker", "--config", "x", "--json"],
        ["init", "--address", "https://vault.example"],
        ["init", "--out", "x"],
        ["init", "--out", "x", "--keyring", "y"],
        ["init", "--out", "x", "--token", "s3cret"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], nowhere: dict[str, str], tmp_path: Path) -> None:
    done = run(*arguments, **nowhere)
    assert done.returncode == 2
    assert done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["columns"],
        ["key", "list"],
        ["key", "create", "k"],
        ["key", "rotate", "k"],
        ["key", "grant", "k", "r"],
        ["key", "revoke", "k", "r"],
        ["protect", "customer", "email:pad"],
        ["unprotect", "customer"],
        ["reencrypt", "customer"],
        ["reencrypt", "customer", "--jobs", "2"],
        ["progress"],
        ["pause", "customer"],
        ["resume", "customer"],
        ["abort", "customer"],
        ["receipts", "--out", "receipt.json"],
    ],
    ids=" ".join,
)
def test_no_server(arguments: list[str], nowhere: dict[str, str]) -> None:
    done = run(*arguments, **nowhere)
    assert done.returncode == 1
    assert "error: cannot connect to PostgreSQL\n" in done.stderr
    assert "HINT: Is the server up" in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


def test_a_password_in_the_dsn_is_warned_about_and_not_repeated(nowhere: dict[str, str]) -> None:
    done = run("status", "--dsn", "dbname=x password=s3cret", **nowhere)
    assert "warning: a password in --dsn shows in the process list" in done.stderr
    assert "s3cret" not in done.stderr


def test_local_keyring(tmp_path: Path, passphrase: Path) -> None:
    out, keyring = tmp_path / "site", tmp_path / "site" / "keyring"
    first = run("init", "--out", out, "--keyring", keyring, "--passphrase-file", passphrase)
    assert first.returncode == 0, first.stderr
    assert "correct horse" not in first.stdout + first.stderr
    assert stat.S_IMODE(keyring.stat().st_mode) == 0o600
    loaded = config.load(out / "broker.toml")
    assert loaded.kms["keyring"] == config.KeyringSettings(keyring, passphrase)
    assert loaded.kek["default"] == config.Kek("keyring", "default")


def test_local_keyring_again_and_with_a_second_kek(tmp_path: Path, passphrase: Path) -> None:
    site = ["init", "--out", tmp_path, "--keyring", tmp_path / "keyring", "--passphrase-file", passphrase]
    assert run(*site).returncode == 0
    before = (tmp_path / "keyring").read_bytes()
    assert run(*site).returncode == 0
    assert (tmp_path / "keyring").read_bytes() == before
    assert run(*site, "--kek", "other").returncode == 0
    assert set(config.load(tmp_path / "broker.toml").kek) == {"default", "other"}


def test_local_keyring_with_another_passphrase(tmp_path: Path, passphrase: Path) -> None:
    site = ["init", "--out", tmp_path, "--keyring", tmp_path / "keyring", "--passphrase-file", passphrase]
    assert run(*site).returncode == 0
    passphrase.write_text("wrong\n")
    done = run(*site)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "wrong" not in done.stderr


def test_a_broker_without_configuration(tmp_path: Path) -> None:
    done = run("broker", "--config", tmp_path / "none.toml", "--check")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
