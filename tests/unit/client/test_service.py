"""What `init --service` makes is what the unit expects, and what the sessions read."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pg_envelope.backend import location
from pg_envelope_client.setup import service
from pg_envelope_client.setup.steps import Steps

UNIT = Path(__file__).parents[3] / "deploy/systemd/pg-envelope-broker.service"


def of_unit(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


def test_user_and_folders_are_those_of_the_unit() -> None:
    assert of_unit("User") == service.USER
    assert f"{service.UNIT}.service" == UNIT.name
    kinds = {"Runtime": "/run/", "Logs": "/var/log/", "State": "/var/lib/"}
    folders = {
        top + of_unit(f"{kind}Directory"): int(of_unit(f"{kind}DirectoryMode"), 8) for kind, top in kinds.items()
    }
    assert folders == service.FOLDERS


def test_backend_conf_is_where_sessions_look() -> None:
    assert str(service.BACKEND) == location.FILE


@pytest.mark.parametrize(
    ("socket", "before", "state"),
    [
        (location.DEFAULT_SOCKET, None, "created"),
        ("/srv/broker.sock", None, "created"),
        ("/srv/broker.sock", "# ours\nbroker_uid = 7\nsocket = /old\n", "updated"),
    ],
)
def test_sessions_read_what_was_written(tmp_path: Path, socket: str, before: str | None, state: str) -> None:
    path = tmp_path / "backend.conf"
    if before is not None:
        path.write_text(before)
    assert service.backend_conf(path, socket, 4242) == state
    found = location.locate({}, str(path))
    assert found == location.Location(socket, frozenset({0, os.geteuid(), 4242}))
    assert "# ours" in path.read_text() or before is None
    if os.geteuid() == 0:
        assert service.backend_conf(path, socket, 4242) == "already there"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_backend_conf_that_was_given_away_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "backend.conf"
    path.write_text("broker_uid = 4242\n")
    os.chown(path, 4242, 4242)
    assert service.backend_conf(path, location.DEFAULT_SOCKET, 4242) == "updated"
    assert path.stat().st_uid == 0


def test_without_root_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    steps = Steps()
    with pytest.raises(Exception, match="run it as root"):
        service.prepare(["postgres"], steps)
    assert not steps.taken
