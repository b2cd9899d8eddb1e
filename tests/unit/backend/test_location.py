"""Where the backend looks for the broker, and whom it believes about that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pg_envelope import errors
from pg_envelope.backend.location import DEFAULT_SOCKET, fips_config, locate


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "backend.conf"
    path.write_text('# where\nsocket = "/run/a.sock"  # here\nbroker_uid = 42\n\nnonsense\n')
    path.chmod(0o644)
    return path


def test_without_anything_the_default() -> None:
    place = locate({}, "/nonexistent")
    assert place.socket == DEFAULT_SOCKET
    assert place.epoch == "/run/pg_envelope/epoch"
    assert place.broker_uids == {0, os.geteuid()}


def test_the_file(file: Path) -> None:
    place = locate({}, str(file))
    assert place.socket == "/run/a.sock"
    assert place.broker_uids == {0, os.geteuid(), 42}


def test_the_environment_comes_first(file: Path) -> None:
    place = locate({"PG_ENVELOPE_SOCKET": "/b/s", "PG_ENVELOPE_BROKER_UID": "7"}, str(file))
    assert (place.socket, place.epoch) == ("/b/s", "/b/epoch")
    assert place.broker_uids == {0, os.geteuid(), 7}


@pytest.mark.parametrize("mode", [0o646, 0o664, 0o666])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(errors.NotConfigured, match="may be written by others"):
        locate({}, str(file))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a file of another user")
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 12345, -1)
    with pytest.raises(errors.NotConfigured, match="may be written by others"):
        locate({}, str(file))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NotConfigured, match="cannot be read"):
        locate({}, str(tmp_path))


def test_a_file_of_other_bytes_is_refused(file: Path) -> None:
    file.write_bytes(b"socket = \xff\n")
    with pytest.raises(errors.NotConfigured, match="cannot be read"):
        locate({}, str(file))


@pytest.mark.parametrize("uid", ["-1", "nobody", "1 2", "0x0"])
def test_a_user_id_is_a_number(uid: str) -> None:
    with pytest.raises(errors.NotConfigured, match="not a number"):
        locate({"PG_ENVELOPE_BROKER_UID": uid}, "/nonexistent")


def test_the_provider_is_asked_for_in_the_file_or_the_environment(file: Path) -> None:
    assert fips_config({}, str(file)) is None
    file.write_text("fips = true\n")
    assert fips_config({}, str(file)) == "/etc/pg_envelope/fips.cnf"
    file.write_text('fips = "true"\nfips_config = /a.cnf\n')
    assert fips_config({}, str(file)) == "/a.cnf"
    assert fips_config({"PG_ENVELOPE_FIPS": "true", "PG_ENVELOPE_FIPS_CONFIG": "/b.cnf"}, "/nonexistent") == "/b.cnf"
    file.write_text("fips = false\n")
    assert fips_config({}, str(file)) is None


@pytest.mark.parametrize("word", ["True", "on", "1", "yes", "falsch"])
def test_the_provider_is_asked_for_by_true_or_false(file: Path, word: str) -> None:
    file.write_text(f"fips = {word}\n")
    with pytest.raises(errors.NotConfigured, match="true or false"):
        fips_config({}, str(file))
