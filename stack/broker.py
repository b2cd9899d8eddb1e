"""Runs the key broker as a process of its own user, with its configuration, secrets and socket in one folder."""

from __future__ import annotations

import copy
import functools
import json
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

from stack.openbao import OpenBao
from stack.postgres import pg_config
from stack.processes import Account, Daemon, folder, free_port, private_file, run_as

Tables = dict[str, Any]

# The flag __SO_ACCEPTCON, as /proc/net/unix prints it.
LISTENING = "00010000"


class Broker:
    """One broker in `directory`: `etc/` (broker.toml and secrets), `run/` (socket, epoch), `log/` (audit log), `state/`
    (ledger of erasures).

    As root it runs as the user nobody, and so neither as PostgreSQL's user nor as root. Its group is PostgreSQL's, so
    that the server may open the socket. `settings` are laid over the configuration, e.g. {"cache": {"ttl_seconds": 2}}.
    `environment` is the process's own at its next start.
    """

    def __init__(self, directory: Path, openbao: OpenBao, *, settings: Tables | None = None) -> None:
        self.directory = directory
        self.openbao = openbao
        self.settings = settings or {}
        self.environment: dict[str, str] = {}
        self.server = Account.of("postgres")
        self.account = Account(Account.of("nobody").name, Account.of("nobody").uid, self.server.gid)
        self.config_file = directory / "etc/broker.toml"
        self.socket = directory / "run/broker.sock"
        self.epoch_file = directory / "run/epoch"
        self.audit_log = directory / "log/audit.log"
        self.erasures = directory / "state/erasures.jsonl"
        self._daemon = Daemon("broker", directory, self.account)

    @functools.cached_property
    def venv(self) -> Path:
        """The extension's own venv in the server, where `make install` put it."""
        return pg_config("--pkglibdir") / "pg_envelope"

    @property
    def log(self) -> Path:
        return self._daemon.log

    @property
    def pid(self) -> int | None:
        return self._daemon.pid

    @property
    def running(self) -> bool:
        return self._daemon.running

    def create(self) -> None:
        """Prepares OpenBao for the broker, and writes configuration and secrets, once."""
        folder(self.directory, 0o711)
        folder(self.directory / "etc", 0o700, self.account)
        folder(self.directory / "run", 0o711, self.account)
        folder(self.directory / "log", 0o700, self.account)
        folder(self.erasures.parent, 0o700, self.account)
        self._init()
        places = {"audit_log": str(self.audit_log), "erasures": str(self.erasures)}
        own = {"broker": {"metrics": f"127.0.0.1:{free_port()}", **places}}
        self.configure(merged(own, self.settings))
        self.account.own_tree(self.config_file.parent)

    def config(self) -> Tables:
        """The configuration as it stands."""
        return tomllib.loads(self.config_file.read_text())

    def configure(self, changes: Tables) -> None:
        """Lay `changes` over the configuration; a broker that runs reads it at its next start."""
        private_file(self.config_file, toml(merged(self.config(), changes)), self.account)

    def start(self) -> None:
        """Starts, and returns when the socket answers. The first time, it also does `create`."""
        if not self.config_file.exists():
            self.create()
        self._daemon.start([*self.command(), "--config", self.config_file], self.ready, self.environment)

    def stop(self) -> None:
        self._daemon.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._daemon.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def reload(self) -> None:
        self._daemon.reload()

    def _init(self) -> None:
        """Makes keys, policy, AppRole and configuration, as an administrator does."""
        options = {
            "--address": self.openbao.address,
            "--ca-file": self.openbao.ca_file,
            "--token-file": self.openbao.token_file,
            "--out": self.config_file.parent,
            "--socket": self.socket,
            "--allow-user": self.server.name,
        }
        words = [str(word) for option in options.items() for word in option]
        run_as(Account.ours(), [self.venv / "bin/pg-envelope", "init", *words])

    def command(self) -> list[str | Path]:
        """Returns the command that runs the broker: the code that is installed in the server, not the checkout."""
        return [self.venv / "bin/python", "-I", "-m", "pg_envelope.broker"]

    def ready(self) -> bool:
        """Tells by the kernel's table whether the broker listens. A connection of ours would be refused, and audited as
        refused.
        """
        sockets = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
        return any(fields[-1] == str(self.socket) and fields[3] == LISTENING for fields in sockets)

    def page(self, name: str) -> str:
        """Returns the text of `metrics` or `healthz`, the broker's two pages for machines."""
        address = self.config()["broker"]["metrics"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{address}/{name}", timeout=10) as response:
            return str(response.read().decode())


def merged(below: Tables, above: Tables) -> Tables:
    """Returns `above` laid over `below`, table by table; neither is changed."""
    result = copy.deepcopy(below)
    for key, value in above.items():
        result[key] = merged(result.get(key, {}), value) if isinstance(value, dict) else value
    return result


def toml(tables: Tables, path: str = "") -> str:
    """Returns TOML text of tables of strings, numbers, booleans, lists and further tables."""
    own = "".join(f"{key} = {json.dumps(value)}\n" for key, value in tables.items() if not isinstance(value, dict))
    inner = ((f"{path}.{key}".lstrip("."), value) for key, value in tables.items() if isinstance(value, dict))
    head = f"[{path}]\n" if own and path else ""
    return head + own + "".join("\n" + toml(value, name) for name, value in inner)
