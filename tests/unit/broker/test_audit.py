"""The audit log's lines, its rotation, and that it fails closed."""

from __future__ import annotations

import json
import stat

import pytest

from pg_envelope import errors
from pg_envelope.broker.audit import Audit


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
