"""Registers the commands, and gives each -h, --json and, where it connects to a server, libpq's options."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, get_type_hints

import typer
from typer.main import get_command_name

from pg_envelope_client import output

DSN = "dsn"
JSON = "as_json"
SERVER = "Connection"

Function = Callable[..., None]


def _server(name: str, short: str, metavar: str, text: str) -> Any:
    declared = [name, *filter(None, [short])]
    return Annotated[str | None, typer.Option(*declared, metavar=metavar, help=text, rich_help_panel=SERVER)]


# These are psql's options, but -h is help. They overrule --dsn.
CONNECTION: dict[str, Any] = {
    "host": _server("--host", "", "HOST", "Server or folder of its socket. Default: PGHOST."),
    "port": _server("--port", "-p", "PORT", "Default: PGPORT."),
    "user": _server("--username", "-U", "ROLE", "Default: PGUSER."),
    "dbname": _server("--dbname", "-d", "NAME", "Default: PGDATABASE."),
}
BROKER_AT = "broker_at"
BROKER_PANEL = "Broker"
VAULT_AT = "vault_at"
VAULT_PANEL = "Vault or OpenBao, in the place of the database"


def _file(name: str, variable: str, text: str, panel: str = BROKER_PANEL) -> Any:
    return Annotated[Path | None, typer.Option(name, envvar=variable, metavar="FILE", help=text, rich_help_panel=panel)]


def _of_vault(name: str, variable: str, metavar: str, text: str) -> Any:
    return Annotated[
        str | None, typer.Option(name, envvar=variable, metavar=metavar, help=text, rich_help_panel=VAULT_PANEL)
    ]


# The members of BrokerAt, in its order.
BROKER: dict[str, Any] = {
    "broker": Annotated[
        str | None,
        typer.Option(
            "--broker",
            envvar="PG_ENVELOPE_BROKER",
            metavar="ADDRESS",
            help="tls://HOST:PORT of the broker's door, or the path of its socket.",
            rich_help_panel=BROKER_PANEL,
        ),
    ],
    "certificate": _file("--certificate", "PG_ENVELOPE_CERTIFICATE", "The application's certificate, for the door."),
    "certificate_key": _file("--certificate-key", "PG_ENVELOPE_CERTIFICATE_KEY", "Its private key."),
    "ca_file": _file("--ca-file", "PG_ENVELOPE_CA_FILE", "The authority of the door's certificate."),
}
# The members of VaultAt, in its order.
VAULT: dict[str, Any] = {
    "vault": _of_vault("--vault", "PG_ENVELOPE_VAULT", "URL", "Its address. The secrets are then there."),
    "vault_mount": _of_vault(
        "--vault-mount", "PG_ENVELOPE_VAULT_MOUNT", "MOUNT", "The KV engine, version 2. Default: secret."
    ),
    "vault_path": _of_vault("--vault-path", "PG_ENVELOPE_VAULT_PATH", "PATH", "A folder in it. Default: all of it."),
    "vault_namespace": _of_vault("--vault-namespace", "PG_ENVELOPE_VAULT_NAMESPACE", "NAMESPACE", "Default: none."),
    "vault_token_file": _file(
        "--vault-token-file",
        "PG_ENVELOPE_VAULT_TOKEN_FILE",
        "A token; mode 0600. Default: ~/.vault-token.",
        VAULT_PANEL,
    ),
    "vault_role_id_file": _file(
        "--vault-role-id-file", "PG_ENVELOPE_VAULT_ROLE_ID_FILE", "An AppRole, in the place of a token.", VAULT_PANEL
    ),
    "vault_secret_id_file": _file(
        "--vault-secret-id-file", "PG_ENVELOPE_VAULT_SECRET_ID_FILE", "Its secret id; mode 0600.", VAULT_PANEL
    ),
    "vault_ca_file": _file(
        "--vault-ca-file", "PG_ENVELOPE_VAULT_CA_FILE", "Its authority. Default: the public ones.", VAULT_PANEL
    ),
}
PASSWORD = Annotated[bool, typer.Option("--password", "-W", help="Ask for the password first.", rich_help_panel=SERVER)]
AS_JSON = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout, errors on stderr.")]


class BrokerAt(NamedTuple):
    """The broker that a command seals or opens with."""

    address: str | None
    certificate_file: Path | None
    key_file: Path | None
    ca_file: Path | None


class VaultAt(NamedTuple):
    """The KV engine that a command of secrets reads and writes; `address` is None for the database."""

    address: str | None
    mount: str | None
    path: str | None
    namespace: str | None
    token_file: Path | None
    role_id_file: Path | None
    secret_id_file: Path | None
    ca_file: Path | None


class Registry(typer.Typer):
    """A group of commands, or the whole command."""

    def __init__(self, text: str, *, completion: bool = False) -> None:
        super().__init__(
            help=text,
            no_args_is_help=True,
            add_completion=completion,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:  # type: ignore[override]
        """Registers a function as typer does. A parameter `dsn` is filled from all of libpq's options, `broker_at`
        from those of the broker, and `vault_at` from those of Vault.
        """
        register = super().command(name, **settings)

        def registered(function: Function) -> Function:
            register(_completed(function))
            return function

        return registered

    def narrowed(self, words: Sequence[str]) -> Self:
        """Returns the registry with the one command that the words name, or the whole registry when they name none.

        typer builds all that is registered before it reads the words. That takes longer than most commands.
        """
        name, inner = (words[0], words[1:]) if words else ("", ())
        narrow = copy.copy(self)
        narrow.registered_commands = [each for each in self.registered_commands if _name(each) == name]
        narrow.registered_groups = [_narrowed(each, inner) for each in self.registered_groups if each.name == name]
        return narrow if narrow.registered_commands or narrow.registered_groups else self


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")


def _narrowed(group: typer.models.TyperInfo, words: Sequence[str]) -> typer.models.TyperInfo:
    narrow = copy.copy(group)
    if isinstance(group.typer_instance, Registry):
        narrow.typer_instance = group.typer_instance.narrowed(words)
    return narrow


def _completed(function: Function) -> Function:
    """Returns the function with the options of all commands, because typer reads its signature."""
    hints = get_type_hints(function, include_extras=True)
    all_own = [each.replace(annotation=hints[each.name]) for each in inspect.signature(function).parameters.values()]
    own = [each for each in all_own if each.name not in (BROKER_AT, VAULT_AT)]
    names = {each.name for each in all_own}
    connects, seals, asks_vault = DSN in names, BROKER_AT in names, VAULT_AT in names
    added = [
        *(_options(BROKER) if seals else []),
        *(_options(VAULT) if asks_vault else []),
        *(_options(CONNECTION) if connects else []),
        _flag(JSON, AS_JSON),
    ]
    if connects:
        added.append(_flag("password", PASSWORD))

    @wraps(function)
    def run(**given: Any) -> None:
        output.machine(given.pop(JSON))
        if connects:
            given[DSN] = _conninfo(given)
        if seals:
            given[BROKER_AT] = BrokerAt(*(given.pop(name) for name in BROKER))
        if asks_vault:
            given[VAULT_AT] = VaultAt(*(given.pop(name) for name in VAULT))
        function(**given)

    signature = inspect.Signature([*own, *added])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return run


def _options(found: dict[str, Any]) -> Iterable[inspect.Parameter]:
    return [_parameter(name, annotation, None) for name, annotation in found.items()]


def _flag(name: str, annotation: Any) -> inspect.Parameter:
    return _parameter(name, annotation, False)


def _parameter(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _conninfo(given: dict[str, Any]) -> str | None:
    """Takes libpq's options out of `given`. Returns the connection string that they and --dsn make."""
    asked, dsn = given.pop("password"), given[DSN]
    parts = {name: value for name in CONNECTION if (value := given.pop(name)) is not None}
    if not parts and not asked:
        return None if dsn is None else str(dsn)
    from pg_envelope_client import database

    if asked:
        database.ask_password()
    return database.conninfo(dsn or "", parts)
