"""Uses one configured KMS: worker threads, time limits, retries, breaker, and what is known of its state."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeVar

from pg_envelope import errors
from pg_envelope.broker.kms.breaker import Breaker
from pg_envelope.broker.kms.calls import Call, no_answer
from pg_envelope.broker.kms.providers.base import Description, Provider, kek_version
from pg_envelope.broker.watch.metrics import Metrics

WORKERS = 16
THREADS = "kms-"
ATTEMPTS = 3
FIRST_RETRY = 0.05
LONGEST_RETRY = 0.8

P = ParamSpec("P")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741


class Kms:
    """Calls a provider. Times are those of `clock`; `until` is when the caller stops waiting."""

    def __init__(
        self, name: str, provider: Provider, timeout: float, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self.name, self.provider = name, provider
        self._timeout, self._metrics, self._clock = timeout, metrics, clock
        self._breaker = Breaker(clock)
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix=THREADS + name)
        self._free = asyncio.Semaphore(WORKERS)
        self.keks: dict[str, Description | errors.EnvelopeError] = {}
        self.in_grace = False

    @property
    def down(self) -> errors.EnvelopeError | None:
        """The error that all requests get now, because the KMS does not answer or is sealed. None when it answers."""
        return self._breaker.error

    async def call(self, op: str, until: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a request that may be repeated, up to ATTEMPTS times while there is time."""
        for attempt in range(ATTEMPTS):
            try:
                return await self.once(op, until, function, *args, **kwargs)
            except errors.KmsBusy:
                raise
            except (errors.KmsUnavailable, errors.KmsSealed):
                pause = FIRST_RETRY * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311  # spreads load, hides nothing
                if attempt + 1 == ATTEMPTS or self.down is not None or self._clock() + pause >= until:
                    raise
                await asyncio.sleep(pause)
        raise errors.KmsUnavailable()

    async def once(self, op: str, until: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a request once. Only one that the KMS was too busy to begin is repeated."""
        pause = FIRST_RETRY
        while True:
            try:
                return await self._attempt(op, until, function, *args, **kwargs)
            except errors.KmsBusy:
                pause = min(2 * pause, LONGEST_RETRY)
                wait = pause * random.uniform(0.5, 1.5)  # noqa: S311  # spreads load, hides nothing
                if self._clock() + wait >= until:
                    raise
                await asyncio.sleep(wait)

    async def _attempt(self, op: str, until: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Sends one request, within the KMS's timeout and `until`."""
        self._breaker.admit()
        async with self._free:
            start, outcome = self._clock(), "cancelled"
            try:
                result = await self._in_thread(until, function, *args, **kwargs)
                outcome = "ok"
            except errors.EnvelopeError as error:
                outcome = error.code
                self._learn(error, self._clock() - start)
                raise
            finally:
                self._metrics.kms_requests.add(self.name, op, outcome)
                self._metrics.kms_seconds.observe(self._clock() - start, self.name, op)
        self._breaker.success()
        return result

    async def batches(
        self,
        op: str,
        until: float,
        function: Callable[[str, Sequence[I]], list[T | errors.EnvelopeError]],
        key: str,
        items: Sequence[I],
    ) -> list[T | errors.EnvelopeError]:
        """Returns a result or an error for each item, in order. A request has at most the provider's batch."""
        size = self.provider.batch
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        results = await asyncio.gather(*(self._chunk(op, until, function, key, chunk) for chunk in chunks))
        return [result for chunk in results for result in chunk]

    async def _chunk(
        self,
        op: str,
        until: float,
        function: Callable[[str, Sequence[I]], list[T | errors.EnvelopeError]],
        key: str,
        chunk: Sequence[I],
    ) -> list[T | errors.EnvelopeError]:
        try:
            found = await self.call(op, until, function, key, chunk)
        except errors.EnvelopeError as error:
            return [error] * len(chunk)
        for wrapped in found:
            if isinstance(wrapped, str):
                self.saw(key, kek_version(wrapped))
        return found

    def saw(self, key: str, version: int) -> None:
        """Notes a newer version of a KEK than the last look found: another broker has rotated the KEK since."""
        known = self.keks.get(key)
        if isinstance(known, Description) and known.version < version:
            self.keks[key] = replace(known, version=version)

    def _learn(self, error: errors.EnvelopeError, seconds: float) -> None:
        """Learns the KMS's state from an error: a refusal shows that it is up, and our own deadline shows nothing."""
        if isinstance(error, errors.KmsUnavailable | errors.KmsSealed) and not isinstance(error, errors.KmsBusy):
            self._breaker.failure(error, timed_out=seconds > 0.9 * self._timeout)
        elif not isinstance(error, errors.Deadline):
            self._breaker.success()

    async def _in_thread(self, until: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        left, call = until - self._clock(), Call()
        work = asyncio.wrap_future(self._threads.submit(lambda: call.run(function, *args, **kwargs)))
        try:
            async with asyncio.timeout(min(left, self._timeout)):
                return await work
        except TimeoutError:
            if left < self._timeout:
                raise errors.Deadline() from None
            raise no_answer() from None
        finally:
            # The asker may be gone, too. Then nothing waits for the answer any more.
            call.end()

    async def ready(self, key: str, until: float) -> None:
        """Makes sure that the KEK is fit before it is used. Raises what `describe` raises."""
        if not isinstance(self.keks.get(key), Description):
            await self.probe(key, until)

    async def probe(self, key: str, until: float) -> None:
        """Asks for the KEK and remembers the answer."""
        try:
            self.keks[key] = await self.call("describe", until, self.provider.describe, key)
        except errors.EnvelopeError as error:
            passing = isinstance(error, errors.KmsUnavailable | errors.KmsSealed | errors.Deadline)
            if not passing or not isinstance(self.keks.get(key), Description):
                self.keks[key] = error.with_traceback(None)
            raise

    def check_version(self, key: str, known: int) -> None:
        """Raises KekRolledBack when a KEK's newest version, as the last look found it, is older than `known`."""
        found = self.keks.get(key)
        if isinstance(found, Description) and found.version < known:
            raise errors.KekRolledBack(
                detail=f"newest version in the KMS: {found.version}; in the key catalog: {known}"
            )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.provider.close()
