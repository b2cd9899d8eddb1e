"""Serves the page on a loopback address, to whoever knows its secret address."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pg_envelope_client.pages import POLICY

ADDRESS = "127.0.0.1"
PATIENCE_SECONDS = 10
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Make = Callable[[], str]


class DashboardServer(ThreadingHTTPServer):
    """Makes the page anew for each request. Its path is a secret, because other users of the machine reach the port."""

    daemon_threads = True
    # Two servers at one port would share its requests.
    allow_reuse_address = True
    allow_reuse_port = False

    def __init__(self, port: int, make: Make) -> None:
        super().__init__((ADDRESS, port), DashboardRequest)
        self.make = make
        self.path = f"/{secrets.token_urlsafe(24)}/"

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}{self.path}"


class DashboardRequest(BaseHTTPRequestHandler):
    """Answers GET of the one path. Anything else is refused before the database is asked."""

    server: DashboardServer
    timeout = PATIENCE_SECONDS
    server_version, sys_version = "pg-envelope", ""

    def do_GET(self) -> None:
        status = self._status()
        self._answer(status, self.server.make() if status is HTTPStatus.OK else status.phrase)

    def _status(self) -> HTTPStatus:
        # A page of another site whose name leads to this machine has another host.
        port = self.server.server_port
        if self.headers.get_all("Host") not in ([f"{ADDRESS}:{port}"], [f"localhost:{port}"]):
            return HTTPStatus.MISDIRECTED_REQUEST
        is_known = hmac.compare_digest(self.path.encode("utf-8", "replace"), self.server.path.encode())
        return HTTPStatus.OK if is_known else HTTPStatus.NOT_FOUND

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the path is a secret."""
