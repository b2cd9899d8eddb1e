"""Files with secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pg_envelope_client.problems import Problem
from pg_envelope_client.setup import private_files


@pytest.fixture(autouse=True)
def open_umask() -> object:
    old = os.umask(0)
    yield
    os.umask(old)


def test_the_mode_does_not_depend_on_umask_or_old_file(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_text("old")
    target.chmod(0o666)
    private_files.write(target, b"new", private_files.SECRET)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs")
    (tmp_path / "secret").symlink_to(other)
    private_files.write(tmp_path / "secret", b"new", private_files.SECRET)
    assert other.read_text() == "theirs"
    assert not (tmp_path / "secret").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    target = tmp_path / "broker.toml"
    target.write_text("old")
    os.chown(target, 4242, 4243)
    private_files.write(target, b"new", private_files.CONFIG)
    assert (target.stat().st_uid, target.stat().st_gid) == (4242, 4243)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_a_secret_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "secret"
    target.write_text("s3cret")
    target.chmod(mode)
    with pytest.raises(Problem, match="every user") as caught:
        private_files.read_secret(target)
    assert "s3cret" not in str(caught.value)


def test_a_secret_is_read_without_line_end(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.touch(0o600)
    with pytest.raises(Problem, match="is empty"):
        private_files.read_secret(target)
    target.write_bytes(b"\xff\xfe")
    with pytest.raises(Problem, match="is not text"):
        private_files.read_secret(target)
    target.write_text("s3cret\n")
    assert private_files.read_secret(target) == "s3cret"
