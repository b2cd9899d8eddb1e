"""broker.toml as init writes and extends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pg_envelope_client.problems import Problem
from pg_envelope_client.setup.broker_config import ConfigFile

OURS = """\
# Ours.
[broker]
socket = '/x'   # as agreed

[kek.default]
kms = "main"
key = "k1"

[cache]
ttl_seconds = 5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.toml"


def test_a_new_file(path: Path) -> None:
    config = ConfigFile(path)
    config.fill("broker", {"socket": "/s", "allowed_users": ["a", "b"]})
    config.fill("kms.main", {"provider": "vault"})
    config.fill("kms.main.auth", {"method": "approle"}, inline=True)
    config.fill("kek.default", {"kms": "main", "key": 'quote " and \\'})
    assert config.write() == "created"
    assert path.read_text() == (
        "# Configuration of the key broker. Written by pg-envelope init; yours to edit.\n\n"
        '[broker]\nsocket = "/s"\nallowed_users = ["a", "b"]\n\n'
        '[kms.main]\nprovider = "vault"\nauth = {method = "approle"}\n\n'
        '[kek.default]\nkms = "main"\nkey = "quote \\" and \\\\"\n'
    )
    assert path.stat().st_mode & 0o777 == 0o640
    assert ConfigFile(path).write() == "already there"


def test_an_existing_file_keeps_its_words(path: Path) -> None:
    path.write_text(OURS)
    config = ConfigFile(path)
    config.fill("broker", {"socket": "/x"})
    config.fill("kek.other", {"kms": "main", "key": "k2"})
    assert config.write() == "updated"
    again = ConfigFile(path)
    assert again.keys_of("main") == {"k1", "k2"}
    assert again.keys_of("keyring") == set()
    written = path.read_text()
    assert [line for line in OURS.splitlines() if line not in written.splitlines()] == []


def test_choose_prefers_the_file_and_refuses_a_contradiction(path: Path) -> None:
    path.write_text(OURS)
    config = ConfigFile(path)
    assert config.choose("broker", "socket", None, "/default") == "/x"
    assert config.choose("broker", "socket", "/x", "/default") == "/x"
    assert config.choose("broker", "environment", None, "default") == "default"
    assert config.choose("broker", "environment", "prod", "default") == "prod"
    with pytest.raises(Problem, match=r"another socket in \[broker\]"):
        config.choose("broker", "socket", "/y", "/default")


def test_a_file_that_is_not_toml(path: Path) -> None:
    path.write_text("[broker\n")
    with pytest.raises(Problem, match="is not TOML"):
        ConfigFile(path)
