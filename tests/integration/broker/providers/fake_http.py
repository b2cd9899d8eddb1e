"""What the fakes of Azure and Google share: a JSON server on loopback that can say no."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from typing import Any


class Refusal(Exception):
    """An answer with an HTTP status of its own."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


class FakeServer:
    """Calls `answer(method, path, body, headers)` of a subclass for each request."""

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.lock = threading.Lock()
        self.requests: list[tuple[str, str]] = []
        self.refusing: int | None = None
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # One packet an answer: the second of two would wait for the first one's receipt.
            wbufsize = 1 << 16

            def do_GET(self) -> None:
                fake.handle(self, "GET")

            def do_POST(self) -> None:
                fake.handle(self, "POST")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a cut connection is no news
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def handle(self, handler: http.server.BaseHTTPRequestHandler, method: str) -> None:
        content = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        path = handler.path.partition("?")[0]
        self.requests.append((method, path))
        try:
            status, headers = 200, {}
            with self.lock:
                found = self.answer(method, path, content, handler.headers)
        except Refusal as refusal:
            status, found, headers = refusal.status, refusal.body, refusal.headers
        body = json.dumps(found).encode()
        handler.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def answer(self, method: str, path: str, content: bytes, headers: Any) -> Any:
        raise NotImplementedError

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
