"""A KMS that drips, is silent, floods, or answers what no KMS should: it costs its time and no more."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import threading
import time
from pathlib import Path

import pytest

from pg_envelope import errors
from pg_envelope.broker.check import check
from pg_envelope.broker.kms import breaker
from pg_envelope.broker.kms.kms import THREADS, WORKERS, Kms
from pg_envelope.broker.kms.providers.make import make_provider
from pg_envelope.broker.settings.kms import TokenFile, VaultSettings
from pg_envelope.broker.watch.metrics import Metrics
from tests.integration.broker.conftest import PATIENCE, private, wait_until
from tests.integration.broker.scripted import Scripted, says_text

WEDGED = ["drips", "drips_its_header", "never_answers"]
DECRYPT = "/transit/decrypt/pg-envelope-default"
ROUNDS = WORKERS + 2
# Short, since each wedged request is waited for; long enough for a login.
SHORT = {"timeout_ms": 1000}
SHORTER_MS = 100
DATABASE = "00000000-0000-0000-0000-000000000001"
DEK = {
    "dek_id": 1,
    "kek": "default",
    "store": "catalog",
    "wrapped": "vault:v1:AAAA",
    "fingerprint": "AAAAAAAAAAAAAAAAAAAAAA==",
    "fields": [],
}


@pytest.fixture
def scripted(directory):
    server = Scripted(directory)
    yield server
    server.close()


@pytest.fixture
def settings(scripted, directory):
    """[kms.main] for the scripted server."""
    return {**scripted.settings(), "auth": {"method": "token", "token_file": str(private(directory / "token", "t"))}}


@pytest.fixture
def fed(make_broker, settings):
    """A broker whose KMS is the scripted server."""
    return make_broker(None, kms=settings).ready()


def derive(broker, dek_id=1, **changes):
    answer = broker.ask("derive", database_uuid=DATABASE, keys=[{**DEK, "dek_id": dek_id, "fields": [field()]}])
    return answer["keys"][0]["error"] if answer["ok"] else answer["error"]


def field():
    return {"key_id": 1, "field_uuid": DATABASE, "salt": "A" * 43 + "=", "label": "t.c"}


@pytest.fixture
def kms(scripted, directory, monkeypatch):
    """The broker's side of a KMS, without the pauses of its breaker."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE", 0.0)
    auth = TokenFile(private(directory / "token", "t"))
    settings = VaultSettings(
        auth=auth, address=scripted.settings()["address"], ca_file=scripted.ca_file, timeout_ms=SHORTER_MS
    )
    return Kms("main", make_provider(settings, lambda error: None), SHORTER_MS / 1000, Metrics(), time.monotonic)


@pytest.mark.parametrize("way", WEDGED)
def test_no_number_of_wedged_requests_uses_up_the_threads(kms, scripted, way):
    scripted.script["/transit/keys/k"] = getattr(scripted, way)

    async def scenario():
        for _ in range(ROUNDS):
            with pytest.raises(errors.KmsUnavailable, match="does not answer") as caught:
                await kms.probe("k", time.monotonic() + 60)
            assert caught.value.detail == "no answer within timeout_ms"
        scripted.script.clear()
        end = time.monotonic() + PATIENCE
        while not await answers(kms):
            assert time.monotonic() < end
        kms.close()

    asyncio.run(scenario())
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)])


async def answers(kms):
    """On a slow machine also a server that is well may take longer than the KMS's time."""
    with contextlib.suppress(errors.KmsUnavailable):
        await kms.probe("k", time.monotonic() + PATIENCE)
        return True
    return False


@pytest.mark.parametrize("way", WEDGED)
def test_it_stops_while_its_kms_is_wedged(make_broker, settings, scripted, way):
    wedged = make_broker(None, kms={**settings, **SHORT}).ready()
    scripted.script["/transit/keys/pg-envelope-default"] = getattr(scripted, way)
    wait_until(lambda: wedged.state() == "failed")
    wedged.process.send_signal(signal.SIGTERM)
    assert wedged.process.wait(PATIENCE) == 0
    assert wedged.events()[-1]["event"] == "stopped"


def test_a_server_that_drips_within_the_tls_handshake(make_broker, settings, scripted):
    scripted.drips_first = True
    broker = make_broker(None, kms={**settings, **SHORT}).start()
    wait_until(lambda: broker.state() == "failed")
    assert broker.stop() == 0


def test_an_answer_of_two_gigabytes_is_not_read(fed, scripted):
    scripted.script[DECRYPT] = scripted.floods
    before = peak(fed)
    error = derive(fed)
    assert (error["code"], error["detail"]) == ("kms_unavailable", "its answer is longer than any that was asked for")
    assert peak(fed) - before < 40_000


def test_an_answer_that_unpacks_to_gigabytes_is_not_read(fed, scripted):
    packed = gzip.compress(b" " * (1 << 28))
    assert len(packed) < 1 << 20
    scripted.script[DECRYPT] = says_text("", header=b"Content-Encoding: gzip\r\n", body=packed)
    before = peak(fed)
    assert derive(fed)["detail"] == "its answer is longer than any that was asked for"
    assert peak(fed) - before < 40_000


def test_a_small_packed_answer_is_read(fed, scripted):
    packed = gzip.compress(json.dumps({"data": {"batch_results": [{"error": "cipher: message"}]}}).encode())
    scripted.script[DECRYPT] = says_text("", header=b"Content-Encoding: gzip\r\n", body=packed)
    assert derive(fed)["code"] == "unwrap_failed"


def peak(broker):
    """Kilobytes of memory, at most, so far."""
    status = Path(f"/proc/{broker.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("way", WEDGED)
def test_a_check_ends_though_the_kms_is_wedged(make_broker, settings, scripted, way):
    scripted.script["/transit/keys/pg-envelope-default"] = getattr(scripted, way)
    broker = make_broker(None, kms={**settings, **SHORT})
    (found,) = [finding for finding in check(broker.config) if finding.name == "kek default"]
    assert (found.state, found.detail) == ("failed", "the KMS does not answer: no answer within timeout_ms")
