"""Flights that a flush, a dead KMS or a late answer meets: what no real server can be made to do on time."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest

from pg_envelope import errors
from pg_envelope.broker.keys.cache import Cache, OpenedDek
from pg_envelope.broker.keys.deks import Limits, OpenDeks
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.kms.providers import keyring_file
from pg_envelope.broker.settings.config import CacheSettings as CacheSettings
from pg_envelope.broker.settings.config import Kek
from pg_envelope.broker.settings.config import KeyringSettings as Settings
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Metrics

DATABASE = uuid.uuid4()
# Seconds: the clock stands still, but a real timer ends what waits. No machine needs so long.
PATIENCE = 60


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Slow(keyring_file.Keyring):
    """A keyring whose unwrap waits for `gate`, and fails with `error` when there is one."""

    def __init__(self, settings):
        super().__init__(settings)
        self.gate, self.entered, self.error, self.count = threading.Event(), threading.Event(), None, 0

    def unwrap(self, key, items):
        self.count += 1
        self.entered.set()
        self.gate.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return super().unwrap(key, items)


class World:
    """One KEK on a slow keyring, a clock that stands still, and one wrapped DEK."""

    def __init__(self, directory):
        keyring_file.create_keyring(directory / "keyring", "p", 1 << 14)
        keyring_file.add_kek(directory / "keyring", "p", "k")
        (directory / "p").touch(mode=0o600)
        (directory / "p").write_text("p")
        self.provider = Slow(Settings(directory / "keyring", directory / "p"))
        self.clock, self.metrics = Clock(), Metrics()
        self.audit_file = directory / "audit"
        self.audit = Audit(str(self.audit_file))
        self.cache = Cache(CacheSettings(ttl_seconds=10, grace_seconds=100), self.clock, self.metrics)
        self.kms = Kms("main", self.provider, PATIENCE, self.metrics, self.clock)
        keks = {"default": Kek("main", "k")}
        limits = Limits("default", PATIENCE)
        self.deks = OpenDeks(limits, keks, {"main": self.kms}, self.cache, self.audit, self.metrics, self.clock)
        wrapped = self.provider.generate("k", f"pg_envelope/1 default {DATABASE} 1")
        self.key = self.deks.key(DATABASE, 1, "default", "catalog", wrapped)

    def ask(self, seconds=PATIENCE):
        return asyncio.create_task(self.deks.resolve([self.key], self.clock() + seconds))

    async def close(self):
        self.provider.gate.set()
        await self.deks.close()
        self.kms.close()
        self.audit.close()


def run(directory, play):
    """Plays a coroutine in a world of its own."""

    async def whole():
        world = World(directory)
        try:
            await play(world)
        finally:
            await world.close()

    asyncio.run(whole())


async def entered(world):
    await asyncio.to_thread(world.provider.entered.wait, PATIENCE)


def test_what_was_asked_before_a_flush_does_not_fill_the_cache_after_it(tmp_path):
    async def play(world):
        asked = world.ask()
        await entered(world)
        world.deks.drop_all()
        world.provider.gate.set()
        assert isinstance((await asked)[0].dek, OpenedDek)
        assert len(world.cache) == 0

    run(tmp_path, play)


def test_who_asks_after_a_flush_does_not_join_a_flight_of_before(tmp_path):
    async def play(world):
        first = world.ask()
        await entered(world)
        world.deks.drop_all()
        second = world.ask()
        world.provider.gate.set()
        answers = (await first) + (await second)
        assert all(isinstance(answer.dek, OpenedDek) for answer in answers)
        assert world.provider.count == 2
        assert world.cache.get(world.key) is answers[1].dek

    run(tmp_path, play)


def test_one_flight_for_all_and_an_impatient_one_does_not_end_it(tmp_path):
    async def play(world):
        impatient, patient = world.ask(0.05), world.ask()
        await entered(world)
        assert isinstance((await impatient)[0].dek, errors.Deadline)
        world.provider.gate.set()
        assert isinstance((await patient)[0].dek, OpenedDek)
        assert world.provider.count == 1

    run(tmp_path, play)


@pytest.mark.parametrize("error", [errors.KmsUnavailable, errors.KmsSealed])
def test_a_dead_kms_leaves_the_grace_and_then_its_own_error(tmp_path, error):
    async def play(world):
        world.provider.gate.set()
        fresh = (await world.ask())[0]
        assert (fresh.cached, fresh.left) == (False, 10)
        world.provider.error = error()
        world.clock.now += 11
        stale = (await world.ask())[0]
        assert stale.dek is fresh.dek
        assert (stale.cached, stale.left) == (True, 89)
        world.clock.now += 89
        assert isinstance((await world.ask())[0].dek, error)
        world.deks.grace_expired()
        assert [line.count("grace_") for line in world.audit_file.read_text().splitlines()] == [1, 1]

    run(tmp_path, play)


@pytest.mark.parametrize("error", [errors.KmsDenied, errors.KekUnknown])
def test_a_refusal_drops_the_key_at_once(tmp_path, error):
    async def play(world):
        world.provider.gate.set()
        await world.ask()
        world.clock.now += 11
        world.provider.error = error()
        assert isinstance((await world.ask())[0].dek, error)
        assert len(world.cache) == 0

    run(tmp_path, play)


def test_a_hanging_kms_leaves_time_for_the_stale_key(tmp_path):
    async def play(world):
        world.provider.gate.set()
        await world.ask()
        world.clock.now += 11
        world.provider.gate.clear()
        assert isinstance((await world.ask(0.1))[0].dek, OpenedDek)

    run(tmp_path, play)


def test_an_unexpected_failure_leaves_nobody_waiting(tmp_path):
    async def play(world):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        world.provider.gate.set()
        world.provider.error = ZeroDivisionError("secret")
        error = (await world.ask())[0].dek
        assert isinstance(error, errors.KmsUnavailable)
        assert error.detail == "its answer is not understood (ZeroDivisionError)"

    run(tmp_path, play)
