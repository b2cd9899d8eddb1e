"""Serves the Unix socket: who may connect, and the way of a request to the service."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import logging
import os
import pwd
import socket
import stat
import struct
from functools import partial
from pathlib import Path
from typing import Any

from pg_envelope import errors, wire
from pg_envelope.broker.requests.asked import Carried
from pg_envelope.broker.requests.conversation import Conversation
from pg_envelope.broker.requests.peers import Peers
from pg_envelope.broker.requests.service import Service
from pg_envelope.broker.settings.config import BrokerSettings as Settings
from pg_envelope.broker.settings.config import Users
from pg_envelope.broker.system import files
from pg_envelope.broker.watch.metrics import Metrics

log = logging.getLogger(__name__)

BACKLOG = 512
CREDENTIALS = struct.Struct("3i")
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """Accepts connections until it is closed."""

    def __init__(self, settings: Settings, service: Service, metrics: Metrics) -> None:
        self._settings, self._service, self._metrics = settings, service, metrics
        self._allowed = uids(settings.allowed_users)
        self._connections: set[asyncio.Task[None]] = set()
        self.peers = Peers(settings.max_connections)
        self._conversation = Conversation(self.peers, metrics)
        self._socket = listen(settings)

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                if error.errno not in OUT_OF_FILES:
                    raise
                log.error("too many connections: %s", error.strerror)
                await asyncio.sleep(0.1)
                continue
            task = asyncio.create_task(self._guarded(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def close(self) -> None:
        """Stops listening, removes the socket, ends the connections."""
        self._socket.close()
        self._settings.socket.unlink(missing_ok=True)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _guarded(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._admit(connection)
        except errors.EnvelopeError as error:
            log.error("%s", error.said)

    async def _admit(self, connection: socket.socket) -> None:
        """Checks the peer before it reads anything from the peer."""
        connection.setblocking(False)
        pid, uid, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        if uid not in self._allowed:
            self._metrics.refused.add()
            self._service.repeats.write("peer_refused", peer={"uid": uid, "pid": pid})
            refusal = errors.NotPermitted(
                "this user may not ask the broker", hint="See allowed_users in its configuration."
            )
            await _refuse(connection, refusal)
            return
        try:
            with self.peers.connected(uid):
                await self._welcome(connection, {"uid": uid, "pid": pid})
        except errors.Overloaded as refusal:
            self._metrics.requests.add("unknown", refusal.code)
            await _refuse(connection, refusal)

    async def _welcome(self, connection: socket.socket, peer: dict[str, Any]) -> None:
        first, carried = await _first(connection)
        try:
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            answer = partial(self._service.answer, peer=peer, carried=carried)
            await self._conversation.hold(reader, writer, peer["uid"], answer, first)
        finally:
            if carried.descriptor is not None:
                os.close(carried.descriptor)
            # After the connection: what the session wrote while it was open is taken, and later the session sees that
            # it is not open.
            await self._service.ended(carried)


async def _first(connection: socket.socket) -> tuple[bytes, Carried]:
    """Waits for the first byte of a connection. A descriptor may come with it, and only with it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
    first, descriptors, _, _ = socket.recv_fds(connection, 1, 1, socket.MSG_CMSG_CLOEXEC)
    return first, Carried(descriptors[0] if descriptors else None)


async def _refuse(connection: socket.socket, refusal: errors.EnvelopeError) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, wire.frame(wire.failure(refusal)))


def uids(users: Users) -> frozenset[int]:
    """Returns the user ids that may connect. Raises NotConfigured for a name that this machine does not know."""
    return frozenset(_uid(user) for user in users)


def _uid(user: str | int) -> int:
    if isinstance(user, int) or user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise errors.NotConfigured(f"broker.allowed_users: there is no user '{user}'") from None


def listen(settings: Settings) -> socket.socket:
    """Returns a listening socket with its final owner and mode. Raises NotConfigured. The caller must hold the epoch's
    lock.
    """
    files.refuse_shared_directory(settings.socket.parent)
    _remove_stale(settings.socket)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _bind(found, settings)
    except errors.EnvelopeError:
        found.close()
        raise
    except OSError as error:
        found.close()
        raise errors.NotConfigured(f"cannot listen on {settings.socket}", detail=error.strerror or str(error)) from None
    return found


def _bind(found: socket.socket, settings: Settings) -> None:
    mask = os.umask(0o177)
    try:
        found.bind(str(settings.socket))
    finally:
        os.umask(mask)
    if settings.socket_group:
        _give(settings.socket, settings.socket_group)
    os.chmod(settings.socket, settings.mode)
    found.listen(BACKLOG)


def _give(path: Path, group: str) -> None:
    if os.stat(path).st_gid == (gid := _gid(group)):
        return
    try:
        os.chown(path, -1, gid)
    except PermissionError:
        raise errors.NotConfigured(
            f"broker.socket_group: the broker may not give its socket to the group '{group}'",
            hint="The broker's user must be a member of it. For the systemd unit: SupplementaryGroups= in a drop-in.",
        ) from None


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise errors.NotConfigured(f"broker.socket_group: there is no group '{name}'") from None


def _remove_stale(path: Path) -> None:
    """Removes the socket that a killed broker left behind. The epoch file's lock shows that no broker runs."""
    refuse_occupied(path)
    path.unlink(missing_ok=True)


def refuse_occupied(path: Path) -> None:
    """Raises NotConfigured when something other than a socket is in the socket's place."""
    try:
        found = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise errors.NotConfigured(f"{path} exists and is not a socket", hint="Move it away.")
