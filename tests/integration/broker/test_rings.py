"""The broker's door for rings: what it takes, what it refuses, and that a bad ring harms nobody else."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from pg_envelope import reads_check, ring, wire
from pg_envelope.broker.watch.metrics import MAX_TOLD
from pg_envelope.checkpoints import PublicKey
from tests.integration.broker.conftest import PATIENCE_MS, WHO, wait_until


def bring(client, descriptors, op="attach", **body):
    """Sends a request with descriptors at its first byte."""
    message = {"v": 1, "op": op, "deadline_ms": PATIENCE_MS, "who": WHO, **body}
    frame = wire.frame(message)
    sent = socket.send_fds(client.socket, [frame], descriptors)
    client.socket.sendall(frame[sent:])
    return client.receive()


def code(answer):
    return "ok" if answer["ok"] else answer["error"]["code"]


def ledger(broker):
    return broker.directory / "reads.jsonl"


def kinds(broker):
    return [entry["event"] for _, entry in reads_check.lines(ledger(broker))]


@pytest.fixture
def made():
    descriptor, memory = ring.create()
    yield descriptor, memory
    os.close(descriptor)


def test_a_ring_is_taken_emptied_and_ended(broker, made):
    descriptor, memory = made
    client = broker.client()
    answer = bring(client, [descriptor], ring=ring.id_of(memory))
    assert len(answer["statement_key"]) == 44
    words = ring.words(memory)
    ring.write(memory, words, 1, json.dumps({"time": 1, "user": "u"}).encode())
    assert client.good("drain", seq=1)
    assert words[ring.TAKEN] == 1
    assert code(client.ask("drain", seq=2)) == "bad_request"
    client.close()
    wait_until(lambda: kinds(broker) == ["attached", "read", "ended"])
    broker.stop()
    public = PublicKey.parse(ledger(broker).with_name("reads.jsonl.pub").read_text())
    assert reads_check.check(ledger(broker), public).problems == []


def counted(broker):
    lines = broker.page("/metrics").splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith("pg_envelope_reads_total{"))


def test_events_are_counted_by_column_and_bounded(broker, made):
    descriptor, memory = made
    client, words = broker.client(), ring.words(memory)
    assert code(bring(client, [descriptor], ring=ring.id_of(memory))) == "ok"
    names = [{"table": "public.t", "column": "c"}] * 2 + [{"key": "cards"}, {}, {"table": 7}]
    for seq, names_of_one in enumerate(names, 1):
        ring.write(memory, words, seq, json.dumps({"time": seq, **names_of_one}).encode())
        assert client.good("drain", seq=seq)
    found = counted(broker)
    assert [value for line, value in found.items() if 'column="public.t.c"' in line] == ["2"]
    assert [value for line, value in found.items() if 'column="key cards"' in line] == ["1"]
    for seq in range(len(names) + 1, MAX_TOLD + 100):
        ring.write(memory, words, seq, json.dumps({"time": seq, "table": f"t{seq}", "column": "c"}).encode())
        if seq % 100 == 0:
            assert client.good("drain", seq=seq)
    assert client.good("drain", seq=seq)
    found = counted(broker)
    assert len(found) == MAX_TOLD + 1
    assert sum(map(int, found.values())) == seq
    client.close()


def test_the_time_of_the_last_checkpoint_is_a_metric(broker, made):
    client = broker.client()
    assert code(bring(client, [made[0]], ring=ring.id_of(made[1]))) == "ok"
    wait_until(lambda: "pg_envelope_ledger_checkpoint_timestamp_seconds " in broker.page("/metrics"))
    note = reads_check.checkpoints_path(ledger(broker)).read_text()
    assert f"time {broker.metric('pg_envelope_ledger_checkpoint_timestamp_seconds'):.0f}\n" in note


def test_before_the_first_checkpoint_the_metric_has_the_start(make_broker, bao, tmp_path):
    """An alert compares this time with its own. Without a value it says nothing when no checkpoint is ever made."""
    broker = make_broker(bao, broker={"reads_anchor": str(tmp_path / "missing" / "anchor")})
    before = time.time()
    broker.ready()
    wait_until(lambda: "the ledger of reads is not signed" in broker.log_path.read_text())
    assert before <= broker.metric("pg_envelope_ledger_checkpoint_timestamp_seconds") <= time.time()
    assert broker.metric("pg_envelope_ledger_up") == 1
    assert broker.good("status")["reads"] is None, "audited columns can be read"
    broker.stop()


def test_what_is_no_ring_is_refused(broker, made):
    unsealed = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, ring.SIZE)
    with tempfile.TemporaryFile() as file:
        file.truncate(ring.SIZE)
        for descriptor in (unsealed, file.fileno(), 0):
            assert code(bring(broker.client(), [descriptor], ring="0" * 32)) == "bad_request"
    os.close(unsealed)
    assert code(bring(broker.client(), [made[0]], ring="0" * 32)) == "bad_request", "the id of another ring"
    assert code(broker.ask("attach", ring="0" * 32)) == "bad_request", "no descriptor"
    assert code(broker.ask("drain", seq=1)) == "bad_request", "no ring"
    assert kinds(broker) == []


@pytest.mark.parametrize("size", [0, 1, ring.HEAD_BYTES, ring.SIZE - 1, ring.SIZE + 1, 2 * ring.SIZE])
def test_a_sealed_ring_of_another_size_is_refused(broker, made, size):
    """Else the broker would read behind its end, and die by SIGBUS."""
    other = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(other, made[1][: min(size, ring.HEAD_BYTES)])
    os.ftruncate(other, size)
    fcntl.fcntl(other, fcntl.F_ADD_SEALS, ring.SEALS)
    assert code(bring(broker.client(), [other], ring=ring.id_of(made[1]))) == "bad_request"
    os.close(other)
    assert kinds(broker) == []
    assert code(bring(broker.client(), [made[0]], ring=ring.id_of(made[1]))) == "ok", "the broker lives"


@pytest.mark.parametrize("missing", [fcntl.F_SEAL_SEAL, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW])
def test_a_ring_that_can_change_its_size_is_refused(broker, made, missing):
    other = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(other, made[1][:])
    fcntl.fcntl(other, fcntl.F_ADD_SEALS, ring.SEALS & ~missing)
    assert code(bring(broker.client(), [other], ring=ring.id_of(made[1]))) == "bad_request"
    os.close(other)
    assert kinds(broker) == []


def test_a_connection_brings_one_ring(broker, made):
    client = broker.client()
    assert code(bring(client, [made[0]], ring=ring.id_of(made[1]))) == "ok"
    assert code(client.ask("attach", ring=ring.id_of(made[1]))) == "bad_request"


def test_descriptors_that_nobody_wants_are_closed(broker, made):
    before = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
    for _ in range(20):
        client = broker.client()
        assert code(bring(client, [made[0], made[0], made[0]], op="status")) == "ok"
        client.close()
    wait_until(lambda: len(os.listdir(f"/proc/{broker.process.pid}/fd")) <= before + 1)


def test_rings_of_ended_sessions_are_given_back(broker):
    before = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
    for _ in range(20):
        descriptor, memory = ring.create()
        client = broker.client()
        assert code(bring(client, [descriptor], ring=ring.id_of(memory))) == "ok"
        client.close()
        os.close(descriptor)
    wait_until(lambda: kinds(broker).count("ended") == 20)
    wait_until(lambda: len(os.listdir(f"/proc/{broker.process.pid}/fd")) <= before + 1)
    # The descriptor is closed before the memory is given back.
    wait_until(lambda: "pg_envelope ring" not in Path(f"/proc/{broker.process.pid}/maps").read_text())
