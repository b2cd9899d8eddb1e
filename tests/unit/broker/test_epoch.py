"""The epoch file: its bytes, and that it is never replaced."""

from __future__ import annotations

import mmap
import stat

import pytest

from pg_envelope import errors
from pg_envelope.broker.keys.epoch import EpochFile


def test_a_mapping_sees_each_bump_and_a_restart_goes_on(tmp_path):
    path = tmp_path / "epoch"
    first = EpochFile(path)
    start = first.value
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 16, prot=mmap.PROT_READ) as mapped:
        assert first.bump() == start + 1
        first.close()
        second = EpochFile(path)
        assert second.value == start + 1
        second.bump()
        assert mapped[:] == b"pgenvep1" + (start + 2).to_bytes(8, "big")
        second.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_made_again_does_not_repeat_a_value(tmp_path):
    path = tmp_path / "epoch"
    first = EpochFile(path)
    old = first.bump()
    first.close()
    path.unlink()
    second = EpochFile(path)
    assert second.value > old
    second.close()


@pytest.mark.parametrize("content", [b"x", b"pgenvep2" + bytes(8), b"pgenvep1" + bytes(9)])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "epoch"
    path.write_bytes(content)
    with pytest.raises(errors.NotConfigured, match="not an epoch file"):
        EpochFile(path)
    assert path.read_bytes() == content


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "epoch").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.NotConfigured):
        EpochFile(tmp_path / "epoch")
    assert not (tmp_path / "elsewhere").exists()


def test_one_broker_at_a_time(tmp_path):
    first = EpochFile(tmp_path / "epoch")
    with pytest.raises(errors.NotConfigured, match="another broker"):
        EpochFile(tmp_path / "epoch")
    first.close()
    EpochFile(tmp_path / "epoch").close()
