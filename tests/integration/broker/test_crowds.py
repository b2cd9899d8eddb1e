"""One user's many connections and half-sent frames: bounded, and no harm to another user."""

from __future__ import annotations

import os
import subprocess

from pg_envelope import wire
from pg_envelope.broker.requests.conversation import BODY_SECONDS
from pg_envelope.broker.requests.peers import HALF_SENT
from tests.integration.broker.conftest import PATIENCE, wait_until

NOBODY = 65534
MOST = 5
MEGABYTE = 1 << 20
BEYOND = 20
ASKS = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.sendall(bytes.fromhex(sys.argv[2]))
print(peer.recv(65536)[4:].decode())
"""
STATUS = {"v": 1, "op": "status", "deadline_ms": 1000, "who": {}}


def test_too_many_connections_of_a_user_are_told_and_others_are_not_touched(make_broker, bao, directory):
    broker = make_broker(
        bao, broker={"max_connections": MOST, "socket_mode": "0666", "allowed_users": [os.getuid(), NOBODY]}
    ).ready()
    for client in broker.clients:
        client.close()
    wait_until(lambda: broker.metric(f'pg_envelope_connections{{uid="{os.getuid()}"}}') == 0)
    held = [broker.client() for _ in range(MOST)]
    assert all(client.ask("status")["ok"] for client in held)
    refused = broker.client().receive()["error"]
    assert (refused["code"], "connections" in refused["message"]) == ("overloaded", True)
    if os.getuid() == 0:
        directory.chmod(0o755)
        command = ["/usr/bin/python3", "-c", ASKS, str(broker.socket_path), wire.frame(STATUS).hex()]
        told = subprocess.run(
            command, user=NOBODY, group=NOBODY, capture_output=True, text=True, timeout=PATIENCE, cwd="/"
        )
        assert '"ok":true' in told.stdout, told.stderr
    held[0].close()
    wait_until(lambda: broker.client().ask("status")["ok"])


def test_no_more_half_sent_frames_of_a_user_are_read_at_once(broker):
    clients = [broker.client() for _ in range(HALF_SENT + BEYOND)]
    assert sum(stuck(client) for client in clients) >= BEYOND
    for client in clients:
        client.close()
    wait_until(lambda: broker.good("status")["protocol"] == 1)


def test_half_of_a_small_frame_holds_up_no_other(broker):
    clients = [broker.client() for _ in range(HALF_SENT + BEYOND)]
    for client in clients:
        client.socket.sendall(wire.frame(STATUS)[:-1])
    # Its own timeout is shorter than that of a frame which is not whole.
    asking = broker.client()
    asking.socket.settimeout(BODY_SECONDS / 2)
    assert asking.ask("status")["ok"]


def stuck(client):
    """Sends all but the last byte of a large frame; whether the broker leaves it waiting in the socket."""
    client.socket.settimeout(0.1)
    try:
        client.socket.sendall(MEGABYTE.to_bytes(4, "big") + bytes(MEGABYTE - 1))
    except TimeoutError:
        return True
    return False
