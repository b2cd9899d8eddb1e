"""pg-envelope secret: API keys, passphrases and other secrets, by name."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, statements, streams
from pg_envelope_client.commands.options import Dsn, Kek, StoreName
from pg_envelope_client.commands.secret_place import NewKey, refuse_keys_of_database, secret_place, vault
from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.registry import BrokerAt, Registry, VaultAt

if TYPE_CHECKING:
    from pg_envelope_client.commands.secret_place import SecretPlace
    from pg_envelope_client.env_file import EnvEntry
    from pg_envelope_client.sealing.secrets import Secrets
    from pg_envelope_client.sealing.vault_secrets import VaultSecrets

secrets = Registry("Secrets: get, set, list, rotate, import a .env file, run a program with them.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.")]
Prefix = Annotated[
    str, typer.Option("--prefix", metavar="TEXT", help="Stands before each variable in the secret's name.")
]
SHOWN = ("name", "version", "stored_at", "due_at", "overdue")
# They make 32 characters, as those of envelope.replace_secret.
RANDOM_BYTES = 24


@secrets.command()
def get(name: Name, broker_at: BrokerAt, vault_at: VaultAt, dsn: Dsn = None) -> None:
    """Print the newest version of a secret, opened here."""
    with secret_place(broker_at, vault_at, dsn) as place:
        value = place.secrets[name]
    if output.for_machine():
        output.print_json({"secret": name, "value": value})
    else:
        print(value, end="\n" if sys.stdout.isatty() else "")


@secrets.command("set")
def set_(
    name: Name,
    broker_at: BrokerAt,
    vault_at: VaultAt,
    secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the secret; mode 0600. Default: standard input.")
    ] = None,
    as_bytes: Annotated[
        bool, typer.Option("--bytes", help="The file's bytes as they are: a raw or OpenPGP key.")
    ] = False,
    kek: Kek = "default",
    store: StoreName = None,
    dsn: Dsn = None,
) -> None:
    """Store a secret, or its next version. With --broker it is sealed here, else by the server."""
    from pg_envelope_client import secret_file as files

    new_key = NewKey(kek, store)
    if vault_at.address is not None:
        refuse_keys_of_database(new_key)
    value = _asked(secret_file, as_bytes)
    if broker_at.address is None and vault_at.address is None:
        version = files.store_secret(name, value, kek, store and store.value, dsn)
    else:
        with secret_place(broker_at, vault_at, dsn, new_key) as place:
            version = place.store(name, value)
    where = f" SQL: envelope.secret('{name}')" if vault_at.address is None else ""
    output.done(f"Secret {name} stored, version {version}.{where}", secret=name, result=version)


@secrets.command("list")
def list_secrets(vault_at: VaultAt, dsn: Dsn = None) -> None:
    """List the secrets, and when each is due for a new version. No value is shown."""
    from pg_envelope_client.database import session

    if vault_at.address is not None:
        with vault(vault_at) as found:
            rows = _listed(found)
    else:
        with session(dsn) as server:
            rows = server.rows(statements.SECRETS)
    output.print_rows(rows, SHOWN, "There is no secret. Next: pg-envelope secret set NAME")


@secrets.command()
def rotate(name: Name, vault_at: VaultAt, dsn: Dsn = None) -> None:
    """Make a new random version, of 32 characters. For a value that you choose: secret set."""
    from pg_envelope_client.database import session

    if vault_at.address is not None:
        with vault(vault_at) as found:
            version = _rotated(found, name)
    else:
        with session(dsn) as server:
            version = server.value(statements.rotate_secret(name))
    output.done(f"Secret {name} has a new random value, version {version}.", secret=name, result=version)


@secrets.command("import")
def import_secrets(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .env file; mode 0600. It stays as it is.")],
    broker_at: BrokerAt,
    vault_at: VaultAt,
    prefix: Prefix = "",
    kek: Kek = "default",
    store: StoreName = None,
    dsn: Dsn = None,
) -> None:
    """Store each variable of a .env file, sealed here, and say which lines can go. It can be repeated."""
    from pg_envelope_client import env_file, secret_file

    entries = env_file.read(secret_file.read(file), file)
    rows: list[dict[str, object]] = []
    with secret_place(broker_at, vault_at, dsn, NewKey(kek, store)) as place:
        for entry in entries:
            state = _imported(place, prefix, entry)
            rows.append({"line": _lines(entry), "secret": prefix + entry.name, "state": state})
    output.print_rows(rows, ("line", "secret", "state"), f"{file} has no variables.")
    gone = [str(row["line"]) for row in rows if row["state"] != "empty"]
    if gone:
        output.note(f"These lines of {file} can go: {', '.join(gone)}.")


@secrets.command("exec", context_settings={"allow_interspersed_args": False})
def execute(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD", help="The program, with its arguments.")],
    broker_at: BrokerAt,
    vault_at: VaultAt,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="TEXT", help="All secrets whose names begin so; the rest is the variable."),
    ] = None,
    variables: Annotated[
        list[str] | None, typer.Option("--env", metavar="VARIABLE=NAME", help="A variable, and the secret for it.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Run a program with secrets in its environment. It takes the place of this command."""
    program = shutil.which(command[0])
    if program is None:
        raise usage(f"there is no program {command[0]}")
    with secret_place(broker_at, vault_at, dsn) as place:
        values = _environment(place.secrets, prefix, variables or [])
    streams.delivered()
    os.execve(program, command, {**os.environb, **values})  # noqa: S606


def _listed(found: VaultSecrets) -> list[dict[str, object]]:
    """Returns rows as the database gives them. Schedules are the database's, so nothing is due in Vault."""
    return [{"name": name, "due_at": None, "overdue": None, **found.about(name)} for name in found.names()]


def _rotated(found: VaultSecrets, name: str) -> int:
    import secrets as random

    # There must be one: a name that was mistyped would make a new secret.
    found.versions(name, 0)
    return found.store(name, random.token_urlsafe(RANDOM_BYTES))


def _asked(file: Path | None, as_bytes: bool) -> str | bytes:
    """Returns the value, from a private file, typed unseen, or from a pipe. Raises Problem."""
    from pg_envelope_client import secret_file as files

    if file is not None:
        content = files.read(file)
        return content if as_bytes else files.passphrase(content, file)
    if not sys.stdin.isatty():
        content = sys.stdin.buffer.read(files.MAX_BYTES + 1)
        if not content or len(content) > files.MAX_BYTES:
            raise usage("standard input holds no secret", hint=f"A secret has 1 to {files.MAX_BYTES} bytes.")
        return content if as_bytes else files.passphrase(content, Path("standard input"))
    return getpass.getpass("Secret: ")


def _imported(place: SecretPlace, prefix: str, entry: EnvEntry) -> str:
    name = prefix + entry.name
    if not entry.value:
        return "empty"
    found = _current(place.secrets, name)
    if found == entry.value.encode():
        return "already there"
    return "created" if place.store(name, entry.value) == 1 else "updated"


def _current(found: Secrets, name: str) -> bytes | None:
    from pg_envelope import errors

    try:
        return found.content(name)
    except (errors.NotPermitted, errors.KeyNotFound, errors.KeyDestroyed):
        return None


def _lines(entry: EnvEntry) -> str:
    return str(entry.first) if entry.first == entry.last else f"{entry.first}-{entry.last}"


def _environment(found: Secrets, prefix: str | None, variables: Sequence[str]) -> dict[bytes, bytes]:
    """Returns the variables of the program. Raises Problem for one that no environment can hold."""
    named = {} if prefix is None else {name.removeprefix(prefix): name for name in found.names(prefix)}
    for text in variables:
        variable, separator, name = text.partition("=")
        if not separator or not name:
            raise usage(f"{text!r} names no secret", hint="--env VARIABLE=NAME")
        named[variable] = name
    if not named:
        raise usage("no secret was found for the program", hint="--prefix TEXT, or --env VARIABLE=NAME")
    return {_variable(variable).encode(): _held(found, name) for variable, name in named.items()}


def _variable(text: str) -> str:
    if not (text.isascii() and text.isidentifier()):
        raise Problem(f"{text!r} cannot be a variable's name", hint="Name it yourself: --env VARIABLE=NAME")
    return text


def _held(found: Secrets, name: str) -> bytes:
    value = found.content(name)
    if 0 in value:
        raise Problem(f"the secret {name} holds the byte 00, which no variable can hold")
    return value
