"""Which files count as private: by mode, owner and place."""

from __future__ import annotations

import os

import pytest

from pg_envelope import errors
from pg_envelope.broker.system import files


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret_id"
    path.write_text("s3cret\n")
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_private_files_are_read(secret, mode):
    secret.chmod(mode)
    assert files.read_secret(secret) == "s3cret"


@pytest.mark.parametrize("mode", [0o440, 0o640, 0o604, 0o620, 0o644])
def test_open_files_are_refused(secret, mode):
    secret.chmod(mode)
    with pytest.raises(errors.NotConfigured, match="open to others"):
        files.read_secret(secret)


def test_a_credential_of_systemd_may_show_its_access_list(secret, monkeypatch):
    secret.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    assert files.read_secret(secret) == "s3cret"


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o442])
def test_a_credential_that_others_can_read_or_change_is_refused(secret, monkeypatch, mode):
    secret.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    with pytest.raises(errors.NotConfigured, match="open to others"):
        files.read_secret(secret)


def test_only_the_credentials_own_folder_is_theirs(secret, monkeypatch, tmp_path):
    secret.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    with pytest.raises(errors.NotConfigured):
        files.read_secret(secret)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(errors.NotConfigured, match="not a regular file"):
        files.read_secret(tmp_path / "pipe")
