"""The audit log's lines, its rotation, and that it fails closed."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat

import pytest

from pg_envelope import errors
from pg_envelope.broker.watch import audit as module
from pg_envelope.broker.watch.audit import Audit


def test_one_line_an_event_whatever_the_text(tmp_path):
    audit = Audit(str(tmp_path / "log"))
    audit.write("request", who={"role": 'x"\n{"event": "forged"}'})
    audit.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["event"] == "request"
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_rotation(tmp_path):
    path = tmp_path / "log"
    audit = Audit(str(path))
    audit.write("one")
    path.rename(tmp_path / "old")
    audit.reopen()
    audit.write("two")
    audit.close()
    assert "one" in (tmp_path / "old").read_text()
    assert "two" in path.read_text()


def test_a_full_disk_is_an_error():
    audit = Audit("/dev/full")
    with pytest.raises(errors.Internal):
        audit.write("request")
    audit.close()


def test_it_says_why_and_recovers(tmp_path):
    audit = Audit("/dev/full")
    with pytest.raises(errors.Internal) as caught:
        audit.write("request")
    assert caught.value.detail == "No space left on device"
    assert audit.problem()[:2] == ("failed", "cannot be written: No space left on device")
    audit._target = str(tmp_path / "log")
    audit.reopen()
    audit.recover()
    assert audit.problem() is None or audit.problem()[0] == "degraded"
    audit.close()
    assert json.loads((tmp_path / "log").read_text())["trouble"] == "No space left on device"


def test_a_line_that_a_full_disk_cut_off_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "log"
    audit = Audit(str(path))
    # A limit on the file's size is met as a full disk is: what fits is written, then comes the error.
    code = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70, before[1]))
        with pytest.raises(errors.Internal) as caught:
            audit.write("request", text="x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, code)
    assert caught.value.detail == "File too large"
    audit.write("after")
    audit.close()
    cut, *whole = path.read_text().splitlines()
    assert len(cut) == 70
    assert [json.loads(line)["event"] for line in whole] == ["audit_recovered", "after"]


def test_a_pipe_that_nobody_reads_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(errors.NotConfigured, match="cannot be written"):
        Audit(str(tmp_path / "pipe"))


def test_a_pipe_that_nobody_empties_fails_and_recovers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAIT_MS", 10)
    os.mkfifo(tmp_path / "pipe", 0o600)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    audit = Audit(str(tmp_path / "pipe"))
    with pytest.raises(errors.Internal) as caught:
        fill(audit)
    assert caught.value.detail == "nobody reads what it writes"
    os.read(reader, 1 << 20)
    audit.write("after")
    lines = os.read(reader, 1 << 20).splitlines()
    assert [json.loads(line)["event"] for line in lines[-2:]] == ["audit_recovered", "after"]
    audit.close()
    os.close(reader)


def fill(audit):
    for _ in range(1000):
        audit.write("request", text="x" * 1000)


def test_standard_output_that_nobody_empties_holds_nobody_up(monkeypatch):
    """The journal, for example, that hangs: its end of the pipe cannot be told not to wait."""
    monkeypatch.setattr(module, "WAIT_MS", 10)
    reader, writer = os.pipe()
    with open(writer, "w") as output:
        monkeypatch.setattr(module.sys, "stdout", output)
        audit = Audit("-")
        with pytest.raises(errors.Internal):
            fill(audit)
    os.close(reader)


@pytest.mark.parametrize("remove", [lambda path: path.unlink(), lambda path: path.with_name("other").rename(path)])
def test_a_file_that_is_gone_is_made_anew(tmp_path, remove):
    path = tmp_path / "log"
    audit = Audit(str(path))
    audit.write("one")
    path.with_name("other").touch()
    remove(path)
    audit.write("two")
    audit.close()
    told = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert [line["event"] for line in told] == ["audit_recovered", "two"]
    assert told[0]["trouble"] == "its file was removed"


def test_where_none_can_be_made_it_fails(tmp_path):
    path = tmp_path / "folder" / "log"
    path.parent.mkdir()
    audit = Audit(str(path))
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(errors.Internal):
        audit.write("request")
    path.parent.mkdir()
    audit.write("after")
    assert "after" in path.read_text()
    audit.close()
