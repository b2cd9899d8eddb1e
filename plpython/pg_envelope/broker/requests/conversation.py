"""Reads the requests of one connection and writes the answers, for the Unix socket and for the door alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from pg_envelope import errors, wire
from pg_envelope.broker.requests.peers import Peers
from pg_envelope.broker.watch.metrics import Metrics

BODY_SECONDS = 10.0
# asyncio holds so much of a connection anyway. A frame of this size waits for no other unfinished frame.
SMALL = 1 << 16

Answer = Callable[[wire.Message], Awaitable[wire.Message]]


class Conversation:
    """Shared by all connections of one listener. `peers` bounds what each peer may leave unfinished."""

    def __init__(self, peers: Peers, metrics: Metrics) -> None:
        self._peers, self._metrics = peers, metrics

    async def hold(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Hashable,
        answer: Answer,
        first: bytes = b"",
    ) -> None:
        """Answers one request after the other, until the peer closes or sends a bad frame.

        `first` is the connection's first byte, if it was read already.
        """
        try:
            await self._converse(reader, writer, peer, answer, first)
            writer.close()
            async with asyncio.timeout(BODY_SECONDS):
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Hashable,
        answer: Answer,
        first: bytes,
    ) -> None:
        while first := first or await reader.read(1):
            try:
                message = await self._message(reader, first, peer)
            except errors.BadInput as error:
                # The bytes that follow cannot be told from the rest of the bad frame, so nothing more is read.
                self._metrics.requests.add("unknown", error.code)
                await send(writer, wire.failure(error))
                return
            first = b""
            await send(writer, await answer(message))

    async def _message(self, reader: asyncio.StreamReader, first: bytes, peer: Hashable) -> wire.Message:
        """Reads the rest of a frame that has begun. Between frames, a peer may be silent for as long as it likes."""
        async with asyncio.timeout(BODY_SECONDS):
            length = wire.body_length(first + await reader.readexactly(wire.LENGTH_BYTES - 1))
            if length <= SMALL:
                return wire.parse(await reader.readexactly(length))
        async with self._peers.frame(peer), asyncio.timeout(BODY_SECONDS):
            return wire.parse(await reader.readexactly(length))


async def send(writer: asyncio.StreamWriter, response: wire.Message) -> None:
    """Writes one frame. Raises TimeoutError when the peer does not take it."""
    writer.write(_framed(response))
    async with asyncio.timeout(BODY_SECONDS):
        await writer.drain()


def _framed(response: wire.Message) -> bytes:
    try:
        return wire.frame(response)
    except errors.BadInput:
        return wire.frame(wire.failure(errors.BadInput("the answer would be too large", hint="Ask for fewer keys.")))
