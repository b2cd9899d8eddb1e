"""Connects to Vault or OpenBao with one login, for a provider and for a client of secrets."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

import hvac
import requests

from pg_envelope import errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers.vault_errors import translated
from pg_envelope.broker.kms.providers.vault_login import Report, VaultLogin, no_right
from pg_envelope.broker.settings.kms import VaultSettings


class VaultLink:
    """One server, one login. Each thread has a client and connections of its own, because hvac's cannot be shared."""

    def __init__(self, settings: VaultSettings, report: Report) -> None:
        self._settings = settings
        self._login = VaultLogin(settings.auth, settings.timeout_ms / 1000, report)
        self._tls: str | None = None
        self._threads = threading.local()
        self._clients: list[hvac.Client] = []

    @property
    def tls(self) -> str | None:
        return self._tls

    @property
    def date(self) -> str | None:
        """The server's own time in the last answer to this thread, as HTTP writes it."""
        return getattr(self._threads, "date", None)

    def token_seconds(self) -> float | None:
        return self._login.seconds()

    def call(self, function: Callable[[hvac.Client], Any]) -> Any:
        """Runs a function with a client that is logged in, and once more after a new login. Raises as Provider says."""
        client = self._client()
        token = client.token = self._login.token(client)
        try:
            with translated():
                return function(client)
        except errors.KmsDenied:
            client.token = self._login.replace(client, token)
        try:
            with translated():
                return function(client)
        except errors.KmsDenied as error:
            raise error if error.detail else no_right() from None

    def close(self) -> None:
        self._login.forget()
        for client in self._clients:
            client.adapter.close()

    def _see(self, answer: requests.Response, *_: object, **__: object) -> None:
        self._tls = _tls_of(answer) or self._tls
        self._threads.date = answer.headers.get("Date")

    def _client(self) -> hvac.Client:
        if not hasattr(self._threads, "client"):
            self._threads.client = _new_client(self._settings)
            self._threads.client.session.hooks["response"] = self._see
            self._clients.append(self._threads.client)
        found: hvac.Client = self._threads.client
        return found


def _tls_of(answer: requests.Response) -> str | None:
    """Returns None where the connection is gone: a server may close it with its answer."""
    if (sock := getattr(getattr(answer.raw, "connection", None), "sock", None)) is None:
        return None
    return str(sock.version()) if isinstance(sock, ssl.SSLSocket) else base.NO_TLS


def _new_client(settings: VaultSettings) -> hvac.Client:
    session = requests.Session()
    # This connection carries keys. It takes no proxy, CA bundle or .netrc from the environment.
    session.trust_env = False
    session.verify = settings.ca_file or True
    return hvac.Client(
        url=settings.address,
        token="",
        timeout=settings.timeout_ms / 1000,
        namespace=settings.namespace or None,
        session=session,
        # A redirect would carry the token to another host.
        allow_redirects=False,
    )
