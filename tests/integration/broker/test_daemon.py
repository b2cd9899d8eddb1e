"""The process: who may connect, broken frames, start, stop, crash and the files it leaves."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from pg_envelope import wire
from pg_envelope.broker.check import check
from pg_envelope.broker.kms.providers import keyring_file
from tests.integration.broker.conftest import PATIENCE

NOBODY = 65534
STRANGER = """
import socket, sys
for _ in range(int(sys.argv[2])):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(sys.argv[1])
    print(peer.recv(65536)[4:].decode())
"""
TRIES = 200


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_before_a_byte_is_read(make_broker, bao, directory):
    broker = make_broker(bao, broker={"socket_mode": "0666"}).ready()
    directory.chmod(0o755)
    command = ["/usr/bin/python3", "-c", STRANGER, str(broker.socket_path), str(TRIES)]
    told = subprocess.run(command, user=NOBODY, group=NOBODY, capture_output=True, text=True, timeout=PATIENCE, cwd="/")
    assert told.stdout.count('"not_permitted"') == TRIES, told.stderr
    assert [event["peer"]["uid"] for event in refusals(broker)] == [NOBODY]
    broker.stop()
    assert [event.get("repeated") for event in refusals(broker)] == [None, TRIES - 1]


def refusals(broker):
    return [event for event in broker.events() if event["event"] == "peer_refused"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x03\xff\xfe{",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x40\x00" + b"[" * 0x4000,
    ],
    ids=["not an object", "not UTF-8", "oversized", "empty", "too deep"],
)
def test_a_malformed_frame_is_answered_and_ends_the_connection(broker, data):
    client = broker.client()
    client.socket.sendall(data)
    assert client.receive()["error"]["code"] == "bad_request"
    assert client.closed()
    assert broker.good("status")["protocol"] == 1


def test_a_truncated_frame_harms_nobody(broker):
    client = broker.client()
    client.socket.sendall(wire.frame({"v": 1})[:-2])
    client.close()
    assert broker.good("status")["protocol"] == 1


@pytest.mark.parametrize("body", [{"v": 2}, {"op": "nope"}, {"op": ["status"]}, {"deadline_ms": 0}, {"who": None}])
def test_a_wrong_request_is_refused_and_the_connection_goes_on(broker, body):
    client = broker.client()
    client.socket.sendall(wire.frame({"v": 1, "op": "status", "deadline_ms": 1000, "who": {}, **body}))
    assert client.receive()["error"]["code"] == "bad_request"
    assert client.ask("status")["ok"]


def test_wrong_members_of_a_derive(broker):
    database, dek = broker.new_dek()
    for wrong in ({"wrapped": None}, {"store": "vault"}):
        assert broker.code(database, {**dek, **wrong}) == "bad_request"
    for wrong in ({"dek_id": 0}, {"dek_id": True}, {"fingerprint": "AA=="}, {"fields": [1]}, {"kek": 1}):
        assert broker.code(database, {**dek, **wrong}) == "bad_request"
    assert broker.code("no uuid", dek) == "bad_request"


def test_more_requests_than_allowed_are_told_at_once(make_broker, own_bao):
    broker = make_broker(own_bao, broker={"max_requests": 1}).ready()
    database, dek = broker.new_dek()
    broker.good("flush", reason="make it cold")
    own_bao.freeze()
    waiting = broker.client()
    waiting.send("derive", database_uuid=database, keys=[dek])
    second = broker.client()
    while broker.metric("pg_envelope_requests_waiting") < 1:
        pass
    assert second.ask("derive", database_uuid=database, keys=[dek])["error"]["code"] == "overloaded"


def test_stop_removes_the_socket_and_keeps_the_epoch(broker):
    epoch = broker.good("flush", reason="test")["epoch"]
    assert broker.stop() == 0
    assert not broker.socket_path.exists()
    assert int.from_bytes(broker.epoch_path.read_bytes()[8:], "big") == epoch
    assert [event["event"] for event in broker.events()][-1] == "stopped"


def test_a_killed_broker_starts_again_with_its_epoch(broker):
    epoch = broker.good("flush", reason="test")["epoch"]
    inode = broker.epoch_path.stat().st_ino
    broker.process.send_signal(signal.SIGKILL)
    broker.process.wait()
    assert broker.socket_path.exists()
    broker.ready()
    assert broker.good("status")["epoch"] == epoch
    assert broker.epoch_path.stat().st_ino == inode


def test_a_second_broker_is_refused(broker):
    first = broker.process
    broker.launch()
    assert broker.process.wait(PATIENCE) == 2
    broker.process = first
    assert "another broker runs" in broker.log_path.read_text()
    assert broker.good("status")["protocol"] == 1


def test_modes_of_what_it_makes(broker):
    assert stat.S_IMODE(broker.socket_path.stat().st_mode) == 0o660
    assert stat.S_IMODE(broker.epoch_path.stat().st_mode) == 0o644
    assert stat.S_IMODE(broker.audit_path.stat().st_mode) == 0o600


def test_no_core_dump(broker):
    limits = Path(f"/proc/{broker.process.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]


@pytest.mark.parametrize("name", ["secret_id", "role_id", "broker.toml"])
def test_refuses_to_start_with_files_open_to_others(make_broker, bao, directory, name):
    broker = make_broker(bao)
    (directory / name).chmod(0o644)
    broker.launch()
    assert broker.process.wait(PATIENCE) == 2
    assert f"{name} is open to others" in broker.log_path.read_text()


@pytest.mark.parametrize(
    "options",
    [{"metrics": "0.0.0.0:9464"}, {"audit_log": "/nonexistent/audit.log"}, {"allowed_users": ["no-such-user"]}],
)
def test_refuses_to_start_with(make_broker, bao, options):
    broker = make_broker(bao, broker=options)
    broker.launch()
    assert broker.process.wait(PATIENCE) == 2
    assert not broker.socket_path.exists()


def test_refuses_a_directory_that_others_can_write(make_broker, bao, directory):
    (directory / "run").chmod(0o777)
    broker = make_broker(bao)
    broker.launch()
    assert broker.process.wait(PATIENCE) == 2
    assert "not private" in broker.log_path.read_text()


def test_check_finds_all_well(broker):
    found = check(broker.config)
    assert {finding.state for finding in found} == {"ok"}
    assert "kek default wraps and unwraps" in [finding.name for finding in found]


def test_check_names_what_is_wrong(make_broker, own_bao, directory):
    broker = make_broker(own_bao)
    own_bao.api("POST", "sys/policies/acl/broker", policy='path "transit/keys/+" { capabilities = ["read"] }')
    failed = {finding.name for finding in check(broker.config) if finding.state == "failed"}
    assert failed == {"kek default wraps and unwraps", "kek default key store"}
    (directory / "secret_id").unlink()
    assert "kek default" in {finding.name for finding in check(broker.config) if finding.state == "failed"}


def test_check_by_command(broker):
    command = [sys.executable, "-m", "pg_envelope.broker", "--check", "--config", str(broker.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout
    broker.config.write_text("[brokr]\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "unknown key brokr" in done.stdout


def test_a_broker_on_a_local_keyring(make_broker, directory):
    passphrase = directory / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text("correct horse\n")
    keyring = directory / "keyring"
    keyring_file.create_keyring(keyring, "correct horse", cost=1 << 14)
    keyring_file.add_kek(keyring, "correct horse", "pg-envelope-default")
    settings = {"provider": "keyring", "keyring_file": str(keyring), "passphrase_file": str(passphrase)}
    broker = make_broker(None, kms=settings).ready()
    database, dek = broker.new_dek()
    key = broker.derive(database, dek)["keys"][0]["key"]
    assert dek["wrapped"].startswith("keyring:v1:")
    assert broker.good("rotate_kek", kek="default")["kek_version"] == 2
    old = {name: dek[name] for name in ("dek_id", "wrapped", "fingerprint")}
    moved = broker.good("rewrap", database_uuid=database, kek="default", store="catalog", deks=[old])["deks"][0]
    assert moved["kek_version"] == 2
    broker.good("flush", reason="make it cold")
    assert broker.derive(database, {**dek, "wrapped": moved["wrapped"]})["keys"][0]["key"] == key
    assert broker.code(str(uuid.uuid4()), dek) == "unwrap_failed"
    answer = broker.ask("generate", database_uuid=database, kek="default", store="vault", dek_id=9)
    assert answer["error"]["code"] == "store_unknown"
