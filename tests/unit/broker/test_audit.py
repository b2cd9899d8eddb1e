"""The audit log's lines, its rotation, and that it fails closed."""

from __future__ import annotations

import json
import resource
import signal
import stat

import pytest

from pg_envelope import errors
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
