"""A TLS server in the place of OpenBao: it answers each path as a script says, also as no server should."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.broker.conftest import PATIENCE_MS, certificates

Answer = Callable[[ssl.SSLSocket], None]
HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
BLOCK = b" " * (1 << 16)


class Scripted:
    """`script` maps the end of a request's path to what is done about it; everything else is answered like OpenBao."""

    def __init__(self, directory: Path) -> None:
        self.ca_file = certificates(directory)
        self.script: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.ended = threading.Event()
        # Instead of a TLS handshake.
        self.drips_first = False
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "server.pem", directory / "server-key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def settings(self) -> dict[str, Any]:
        address = f"https://127.0.0.1:{self.port}"
        return {"provider": "vault", "address": address, "ca_file": self.ca_file, "timeout_ms": PATIENCE_MS}

    def close(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                # An answer would wait for the client's delayed acknowledgement of the handshake's end: 40 ms each time.
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            if self.drips_first:
                self.drips_its_header(plain)
            self._converse(plain)

    def _converse(self, plain: socket.socket) -> None:
        with self._context.wrap_socket(plain, server_side=True) as connection:
            while path := _request(connection):
                self.asked.append(path)
                found = [answer for end, answer in self.script.items() if path.endswith(end)]
                (found[0] if found else like_openbao(path))(connection)

    def drips(self, connection: ssl.SSLSocket) -> None:
        """A byte now and then, each well within any time to wait for one."""
        connection.sendall(HEAD % b"200 OK" + b"Content-Length: 1000000\r\n\r\n")
        while not self.ended.is_set():
            connection.sendall(b" ")
            time.sleep(0.05)

    def drips_its_header(self, connection: socket.socket) -> None:
        while not self.ended.is_set():
            connection.sendall(b"H")
            time.sleep(0.05)

    def never_answers(self, _: ssl.SSLSocket) -> None:
        self.ended.wait()

    def floods(self, connection: ssl.SSLSocket) -> None:
        """2 GB, in chunks, as fast as they go."""
        connection.sendall(HEAD % b"200 OK" + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range((2 << 30) // len(BLOCK)):
            connection.sendall(b"%x\r\n" % len(BLOCK) + BLOCK + b"\r\n")


def like_openbao(path: str) -> Answer:
    """A login and a KEK that are fit."""
    if path.endswith("lookup-self"):
        return says({"data": {"ttl": 0, "expire_time": None, "renewable": False}})
    return says({"data": {"type": "aes256-gcm96", "derived": True, "latest_version": 1, "min_decryption_version": 1}})


def says(answer: object, status: str = "200 OK") -> Answer:
    """That JSON."""
    return says_text(json.dumps(answer), status)


def says_text(text: str, status: str = "200 OK", header: bytes = b"", body: bytes | None = None) -> Answer:
    content = text.encode() if body is None else body

    def send(connection: ssl.SSLSocket) -> None:
        head = HEAD % status.encode() + header + b"Content-Length: %d\r\n\r\n" % len(content)
        connection.sendall(head + content)

    return send


def _request(connection: ssl.SSLSocket) -> str | None:
    """The path of the next request, once all of the request was read; None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(1 << 16)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    left = int(lengths[0]) - len(body) if lengths else 0
    while left > 0:
        left -= len(connection.recv(left))
    return head.split(b" ", 2)[1].decode()
