"""What every provider must do, by the same tests."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from pg_envelope import derivation, errors
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers.base import Description, Item, Plain, kek_version
from pg_envelope.broker.system import clock
from pg_envelope.broker.watch.metrics import Metrics
from tests.integration.broker.conftest import PATIENCE, wait_until

# After so many seconds a provider hangs. One that does not is asked again until it answers within them.
HANGS = 1
DATABASE = uuid.UUID(int=7)
HERE = derivation.context("default", DATABASE, 1)
ELSEWHERE = {
    "other database": derivation.context("default", uuid.UUID(int=8), 1),
    "other DEK": derivation.context("default", DATABASE, 2),
    "other environment": derivation.context("staging", DATABASE, 1),
}


@pytest.fixture
def provider(world):
    found = world.provider()
    yield found
    found.close()


def opened(provider, key, wrapped, context=HERE):
    """What a single unwrap gives, in requests of at most the provider's batch."""
    return provider.unwrap(key, [Item(context, wrapped)])[0]


def code(result):
    return result.code if isinstance(result, errors.EnvelopeError) else "ok"


def tried(work, key, item):
    """The error of one item, wherever it comes out."""
    try:
        return code(work(key, [item])[0])
    except errors.EnvelopeError as error:
        return error.code


def raised(function, *arguments):
    try:
        function(*arguments)
    except errors.EnvelopeError as error:
        return error
    return None


def changed(wrapped, place):
    """The wrap with one bit of its content flipped."""
    head, _, text = wrapped.rpartition(":")
    content = bytearray(base64.b64decode(text))
    content[place] ^= 1
    return f"{head}:{base64.b64encode(content).decode()}"


def cut(wrapped, left):
    head, _, text = wrapped.rpartition(":")
    return f"{head}:{base64.b64encode(base64.b64decode(text)[:left]).decode()}"


def test_a_generated_dek_opens_again_to_the_same_bytes(world, provider):
    wrapped = provider.generate(world.key, HERE)
    dek = opened(provider, world.key, wrapped)
    assert len(dek) == derivation.DEK_BYTES
    assert opened(provider, world.key, wrapped) == dek
    assert opened(world.provider(), world.key, wrapped) == dek
    assert opened(provider, world.key, provider.generate(world.key, HERE)) != dek
    assert wrapped.isascii()
    assert base64.b64encode(dek).decode() not in wrapped


def test_a_dek_of_another_kek_is_wrapped_and_opens(world, provider):
    dek = bytes(range(32))
    (wrapped,) = provider.wrap(world.key, [Plain(HERE, dek)])
    assert opened(provider, world.key, wrapped) == dek
    assert code(opened(provider, world.key, wrapped, ELSEWHERE["other DEK"])) == "unwrap_failed"


@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_wrap_opens_in_its_own_place_only(world, provider, place):
    wrapped = provider.generate(world.key, HERE)
    assert code(opened(provider, world.key, wrapped, ELSEWHERE[place])) == "unwrap_failed"
    (moved,) = provider.rewrap(world.key, [Item(ELSEWHERE[place], wrapped)])
    assert code(moved) == "unwrap_failed"


@pytest.mark.parametrize("place", [0, 12, 20, -20, -1])
def test_a_flipped_bit_is_found(world, provider, place):
    wrapped = provider.generate(world.key, HERE)
    assert tried(provider.unwrap, world.key, Item(HERE, changed(wrapped, place))) in world.foreign


@pytest.mark.parametrize("left", [0, 1, 16, 28, -1])
def test_a_cut_wrap_is_found(world, provider, left):
    wrapped = provider.generate(world.key, HERE)
    assert code(opened(provider, world.key, cut(wrapped, left))) == "unwrap_failed"


@pytest.mark.parametrize(
    "wrapped", ["", "x", "nobody:v1:AAAA", "vault:v1:AAAA", "keyring:v1:AAAA", "aws:v1:!", "aws:v1:é"]
)
def test_what_is_no_wrap_does_not_open(world, provider, wrapped):
    assert code(opened(provider, world.key, wrapped)) == "unwrap_failed"


def test_a_wrap_of_another_kek_does_not_open(world, provider):
    wrapped = provider.generate(world.other, HERE)
    for work in (provider.unwrap, provider.rewrap):
        assert tried(work, world.key, Item(HERE, wrapped)) in world.foreign


def test_rotation_keeps_old_wraps_and_rewrap_moves_them(world, provider):
    if not world.rotates:
        pytest.skip("rotates by configuration")
    old = provider.generate(world.key, HERE)
    before = provider.describe(world.key).version
    assert provider.rotate(world.key) == before + 1
    assert provider.describe(world.key).version == before + 1
    (new,) = provider.rewrap(world.key, [Item(HERE, old)])
    assert (kek_version(old), kek_version(new)) == (before, before + 1)
    assert kek_version(provider.generate(world.key, HERE)) == before + 1
    dek = opened(provider, world.key, old)
    assert len(dek) == derivation.DEK_BYTES
    assert opened(world.provider(), world.key, new) == dek


def test_one_bad_item_does_not_spoil_a_batch(world, provider):
    items = [Item(HERE, provider.generate(world.key, HERE)) for _ in range(5)]
    items[2] = Item(HERE, changed(items[2].wrapped, -1))
    for work in (provider.unwrap, provider.rewrap):
        results = asyncio.run(in_batches(provider, work, world.key, items))
        assert [code(result) for result in results] == ["ok", "ok", "unwrap_failed", "ok", "ok"]


async def in_batches(provider, work, key, items):
    kms = Kms("test", provider, PATIENCE, Metrics(), clock.now)
    return await kms.batches("test", clock.now() + PATIENCE, work, key, items)


def test_a_kek_that_is_not_there(world, provider):
    missing = "0" * 8 + world.key[8:] if "-" in world.key and len(world.key) == 36 else "missing"
    for work in (lambda: provider.describe(missing), lambda: provider.generate(missing, HERE)):
        assert code(raised(work)) == ("kms_denied" if not world.can_deny else "kek_unknown")


def test_describe(world, provider):
    found = provider.describe(world.other)
    assert isinstance(found, Description)
    assert found.version >= 1
    assert found.warnings == ()
    assert "catalog" in provider.stores
    assert provider.batch >= 1


def test_threads_at_once(world, provider):
    wraps = [provider.generate(world.key, HERE) for _ in range(4)]
    deks = [opened(provider, world.key, wrapped) for wrapped in wraps]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: opened(provider, world.key, wraps[number % 4]), range(32)))
        made = list(pool.map(lambda _: provider.generate(world.key, HERE), range(16)))
    assert found == [deks[number % 4] for number in range(32)]
    assert len({opened(provider, world.key, wrapped) for wrapped in made}) == 16


async def asked(provider, work, *arguments):
    """As the broker asks: within a deadline, which would be an error of its own."""
    kms = Kms("test", provider, HANGS, Metrics(), clock.now)
    try:
        return await kms.once("test", clock.now() + PATIENCE, work, *arguments)
    except errors.EnvelopeError as error:
        return error


@pytest.mark.parametrize("way", ["down", "hang"])
def test_a_dead_provider_and_its_return(world, provider, way):
    if not world.goes_down or (way == "hang" and not world.can_hang):
        pytest.skip("has nothing that could")
    item = Item(HERE, provider.generate(world.key, HERE))
    getattr(world, way)()
    try:
        assert code(asyncio.run(asked(provider, provider.unwrap, world.key, [item]))) == "kms_unavailable"
    finally:
        world.up()
    wait_until(lambda: code(asyncio.run(asked(provider, provider.describe, world.key))) == "ok")
    assert len(opened(provider, world.key, item.wrapped)) == derivation.DEK_BYTES


def test_a_refusal_and_its_end(world):
    if not world.can_deny:
        pytest.skip("has nobody to refuse")
    provider = world.provider()
    world.deny()
    try:
        assert code(raised(provider.describe, world.key)) == "kms_denied"
        assert code(raised(provider.generate, world.key, HERE)) == "kms_denied"
    finally:
        world.allow()
    assert provider.describe(world.key).version >= 1


def test_no_secret_in_errors_and_logs(world, provider, caplog):
    """Logs as the broker keeps them: from INFO on."""
    caplog.set_level(logging.INFO)
    wrapped = provider.generate(world.key, HERE)
    dek = opened(provider, world.key, wrapped)
    found = [opened(provider, world.key, changed(wrapped, -1)), raised(provider.describe, "missing")]
    found.append(raised(provider.wrap, "missing", [Plain(HERE, dek)]))
    if world.can_deny:
        world.deny()
        found += [raised(provider.wrap, world.key, [Plain(HERE, dek)]), raised(world.provider().describe, world.key)]
        world.allow()
    if world.goes_down:
        world.down()
        found.append(raised(provider.wrap, world.key, [Plain(HERE, dek)]))
        world.up()
    shown = [one for error in found if error for one in (error.message, error.detail or "", error.hint or "")]
    shown += [text for error in found if error for text in traceback.format_exception(error)]
    text = "".join(shown) + caplog.text
    for secret in (*world.secrets, dek.hex(), base64.b64encode(dek).decode(), repr(dek)[2:-1], wrapped):
        assert secret not in text
    wait_until(lambda: code(asyncio.run(asked(provider, provider.describe, world.key))) == "ok")
