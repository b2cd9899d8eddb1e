"""Each provider's own client, with answers that come byte by byte or never end: a call ends, and its thread with it."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from pg_envelope import errors
from pg_envelope.broker.kms.calls import Call, within
from tests.integration.broker.conftest import PATIENCE, wait_until
from tests.integration.broker.providers.worlds import Remote

SECONDS = 0.5
CONTEXT = "pg_envelope/1 default 00000000-0000-0000-0000-000000000001 1"
# Their servers speak TLS, so that a relay has nothing to say.
SEALED = {"AzureWorld", "KmipWorld"}


@pytest.fixture
def remote(world):
    if not isinstance(world, Remote):
        pytest.skip("asks no server")
    yield world
    world.up()


def error_of(call, function, *args):
    with pytest.raises(errors.EnvelopeError) as caught:
        call.run(function, *args)
    return caught.value


def test_a_server_that_trickles_holds_no_thread(remote):
    provider = remote.provider()
    provider.describe(remote.key)
    remote.relay.trickle()
    with ThreadPoolExecutor(1) as threads:
        call = Call()
        work = threads.submit(error_of, call, provider.generate, remote.key, CONTEXT)
        with pytest.raises(TimeoutError):
            work.result(SECONDS)
        call.end()
        assert work.result(PATIENCE).code == "kms_unavailable"


def test_also_one_who_has_no_event_loop_can_bound_a_call(remote):
    provider = remote.provider()
    remote.relay.trickle()
    with within(SECONDS) as call:
        assert error_of(call, provider.describe, remote.key).detail == "no answer within timeout_ms"


def test_after_that_the_provider_works_again(remote):
    provider = remote.provider()
    remote.relay.trickle()
    with within(SECONDS) as call:
        error_of(call, provider.describe, remote.key)
    remote.up()
    wait_until(lambda: tried(provider, remote.key))


def tried(provider, key):
    try:
        return Call().run(provider.describe, key).version >= 1
    except errors.EnvelopeError:
        return False


def test_an_answer_without_an_end_is_not_read(remote):
    if type(remote).__name__ in SEALED:
        pytest.skip("behind TLS")
    provider = remote.provider()
    remote.relay.flood()
    error = error_of(Call(), provider.describe, remote.key)
    assert (error.code, error.detail) == ("kms_unavailable", "its answer is longer than any that was asked for")


def test_no_socket_is_left(remote):
    provider = remote.provider()
    remote.relay.trickle()
    with within(SECONDS) as call:
        error_of(call, provider.describe, remote.key)
    assert not call._sockets
    call.end()
    with pytest.raises(TimeoutError), socket.socket() as late:
        call.hold(late)
