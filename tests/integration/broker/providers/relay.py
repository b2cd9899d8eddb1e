"""A TCP relay between a provider and its server, which can be cut, and can hang, trickle or flood."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

# Well within any client's time for one read.
PAUSE = 0.05


class Relay:
    """Listens on `port` of loopback; what comes goes to `target`'s port, both ways."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._hanging = False
        # Seconds before each byte of an answer; 0: as it comes.
        self._pause = 0.0
        self._flooding = False

    def cut(self) -> None:
        """Refuses connections, and ends those that are open."""
        # A thread that waits in accept would keep the port.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_all()

    def hang(self) -> None:
        """Accepts connections, and passes nothing on."""
        self._hanging = True
        self._end_all()

    def trickle(self) -> None:
        """Passes answers on byte by byte."""
        self._pause = PAUSE
        self._end_all()

    def flood(self) -> None:
        """Answers every request in HTTP, without an end."""
        self._flooding = True
        self._end_all()

    def mend(self) -> None:
        self._hanging = self._flooding = False
        self._pause = 0.0
        self._end_all()
        if self._listener.fileno() < 0:
            self._listener = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            self._open.add(near)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._flooding:
                threading.Thread(target=self._answer, args=(near,), daemon=True).start()
            elif not self._hanging:
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open.add(far)
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for one, other, pause in ((near, far, 0.0), (far, near, self._pause)):
                    threading.Thread(target=self._pump, args=(one, other, pause), daemon=True).start()

    def _answer(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            near.recv(1 << 16)
            near.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                near.sendall(bytes(1 << 16))
        self._end(near)

    def _pump(self, source: socket.socket, sink: socket.socket, pause: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 if pause else 1 << 16):
                time.sleep(pause)
                sink.sendall(data)
        for one in (source, sink):
            self._end(one)

    def _end_all(self) -> None:
        for one in list(self._open):
            self._end(one)

    def _end(self, one: socket.socket) -> None:
        self._open.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
