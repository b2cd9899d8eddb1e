"""Serves /metrics and /healthz on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from pg_envelope import errors
from pg_envelope.broker.settings.config import listen_address

REQUEST_SECONDS = 5.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"

Pages = dict[str, Callable[[], str]]


async def start(address: str, pages: Pages) -> asyncio.Server:
    """Serves each path's text. Raises NotConfigured when the address is taken."""
    host, port = listen_address(address)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_response(request, pages))
                await writer.drain()
        writer.close()

    try:
        return await asyncio.start_server(serve, host, port)
    except OSError as error:
        raise errors.NotConfigured(f"cannot listen on {address} for metrics", detail=error.strerror) from None


def _response(request: bytes, pages: Pages) -> bytes:
    method, _, rest = request.decode("latin-1").partition(" ")
    page = pages.get(rest.split(" ", 1)[0]) if method == "GET" else None
    status, text = ("200 OK", page()) if page else ("404 Not Found", "not found\n")
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {TEXT}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
