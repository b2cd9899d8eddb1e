"""`--check` and the start agree: what one refuses, the other refuses, and for the same reason."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pg_envelope import errors
from pg_envelope.broker.check import check
from pg_envelope.broker.kms.providers import keyring_file

from .conftest import PATIENCE, Broker, private

SECRETS = {"CHECK_BASE": "b" * 40, "CHECK_PURPOSE_PG_ENVELOPE_DEFAULT": "p" * 40}
KMS = {"provider": "secrets", "base_secret": "CHECK_BASE", "purpose_secret": "CHECK_PURPOSE"}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def failed(broker: Broker) -> dict[str, str]:
    return {found.name: found.detail for found in check(broker.config) if found.state == "failed"}


def refusal(broker: Broker) -> str:
    """What the start says when it refuses."""
    broker.launch()
    assert broker.process.wait(PATIENCE) != 0
    return broker.log_path.read_text()


def a_file_at_the_socket(directory: Path) -> None:
    (directory / "run/broker.sock").write_text("somebody's notes\n")


def a_foreign_epoch(directory: Path) -> None:
    (directory / "run/epoch").write_text("not an epoch\n")


def half_a_ledger(directory: Path) -> None:
    private(directory / "erasures.jsonl", "{}")


def a_broken_ledger(directory: Path) -> None:
    private(directory / "erasures.jsonl", '{"v": 1}')
    private(directory / "erasures.jsonl.key", "00" * 32)


FAULTS = [
    ("socket", {"socket_group": "no-such-group"}, None, "no-such-group"),
    ("socket", {"socket": "/tmp/" + "x" * 120}, None, "too long"),
    ("socket", {}, a_file_at_the_socket, "not a socket"),
    ("epoch", {}, a_foreign_epoch, "not an epoch"),
    ("ledger of erasures", {}, half_a_ledger, "or its key is missing"),
    ("ledger of erasures", {}, a_broken_ledger, "broken"),
    ("ledger of erasures", {"erasures": "/no/such/folder/erasures.jsonl"}, None, "/no/such/folder"),
    ("audit log", {"audit_log": "/dev/full"}, None, "audit log"),
    ("audit log", {"audit_log": "/no/such/folder/audit.log"}, None, "audit log"),
    ("allowed users", {"allowed_users": ["no-such-user"]}, None, "no-such-user"),
    ("socket directory", {"socket": "/no/such/folder/broker.sock"}, None, "/no/such/folder"),
]


@pytest.mark.parametrize(("name", "settings", "prepare", "word"), FAULTS)
def test_what_the_start_refuses_the_check_refuses(
    make_broker: Callable[..., Broker],
    directory: Path,
    name: str,
    settings: dict[str, object],
    prepare: Callable[[Path], None] | None,
    word: str,
) -> None:
    if "socket" in settings and len(str(settings["socket"])) > 107:
        settings = {"socket": str(directory / "run" / ("x" * 120))}
    broker = make_broker(None, kms=KMS, broker=settings)
    if prepare:
        prepare(directory)
    found = failed(broker)
    assert word in found[name]
    assert word in refusal(broker)


def test_a_port_that_is_taken(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(None, kms=KMS)
    with socket.socket() as other:
        other.bind(("127.0.0.1", broker.port))
        other.listen()
        assert list(failed(broker)) == ["metrics"]
        assert "for metrics" in refusal(broker)


def test_another_broker_in_the_same_folder(make_broker: Callable[..., Broker], directory: Path) -> None:
    first = make_broker(None, kms=KMS).ready()
    own = {"socket": str(directory / "run/other.sock"), "erasures": str(directory / "other.jsonl")}
    second = make_broker(None, kms=KMS, broker=own)
    assert list(failed(second)) == ["epoch"]
    assert "another broker runs" in refusal(second)
    assert first.good("status")


def test_beside_the_running_broker_all_is_well_and_nothing_is_disturbed(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(None, kms=KMS).ready()
    found = {one.name: one for one in check(broker.config)}
    assert {one.state for one in found.values()} == {"ok"}
    assert "it runs" in found["broker"].detail
    assert broker.good("status")
    assert broker.events()[-1]["event"] != "peer_refused"


def test_a_check_leaves_nothing_behind(make_broker: Callable[..., Broker], directory: Path) -> None:
    broker = make_broker(None, kms=KMS)
    before = sorted(directory.rglob("*"))
    assert not failed(broker)
    assert sorted(directory.rglob("*")) == before
    broker.ready()


def test_a_keyring_that_cannot_rotate_is_a_warning(make_broker: Callable[..., Broker], directory: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("a check as another user")
    folder = directory / "etc"
    folder.mkdir(mode=0o755)
    passphrase = private(folder / "passphrase", "correct horse")
    keyring_file.create_keyring(folder / "keyring", "correct horse", cost=1 << 14)
    keyring_file.add_kek(folder / "keyring", "correct horse", "pg-envelope-default")
    settings = {"provider": "keyring", "keyring_file": str(folder / "keyring"), "passphrase_file": str(passphrase)}
    broker = make_broker(None, kms=settings)
    nobody = 65534
    directory.chmod(0o755)
    for path in (directory / "run", broker.config, passphrase, folder / "keyring"):
        os.chown(path, nobody, nobody)
    # The interpreter of the tests may lie where another user cannot come: the check runs in ours, after a fork.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresgid(nobody, nobody, nobody)
            os.setresuid(nobody, nobody, nobody)
            states = {one.name: one.state for one in check(broker.config)}
            assert (states["keyring"], states["kek default"]) == ("warning", "ok")
            with pytest.raises(errors.NotConfigured, match="cannot be written") as caught:
                keyring_file.rotate(folder / "keyring", "correct horse", "pg-envelope-default")
            assert "/var/lib/pg_envelope" in (caught.value.hint or "")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_root_checks_as_the_owner_of_the_configuration(make_broker: Callable[..., Broker], directory: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    broker = make_broker(None, kms=KMS)
    os.chown(broker.config, 65534, 65534)
    directory.chmod(0o755)
    command = [sys.executable, "-m", "pg_envelope.broker", "--check", "--config", str(broker.config)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE).stdout
    assert "checked as uid 65534" in told
    assert f"failed   socket directory: the directory {directory / 'run'} is not private" not in told
    assert "failed   epoch: the broker cannot write" in told
