"""pg-envelope secret: the passphrases and keys of pgcrypto, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pg_envelope_client import output
from pg_envelope_client.commands.options import Dsn, Kek, StoreName
from pg_envelope_client.registry import Registry

secrets = Registry("Secrets for pgcrypto's functions: import.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.")]


@secrets.command("import")
def import_secret(
    name: Name,
    secret_file: Annotated[Path, typer.Option(metavar="FILE", help="A file with the secret; mode 0600.")],
    as_bytes: Annotated[
        bool, typer.Option("--bytes", help="The file's bytes as they are: a raw or OpenPGP key.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make a new version of a secret that exists.")] = False,
    kek: Kek = "default",
    store: StoreName = None,
    dsn: Dsn = None,
) -> None:
    """Take over a passphrase or key that pgcrypto uses, for envelope.secret('NAME')."""
    from pg_envelope_client import secret_file as files
    from pg_envelope_client.database import session

    content = files.read(secret_file)
    secret = content if as_bytes else files.passphrase(content, secret_file)
    with session(dsn) as server:
        if replace:
            version = files.replace_secret(server, name, secret)
        else:
            version = files.import_secret(server, name, secret, kek, store and store.value)
    sentence = f"Secret {name} stored, version {version}. SQL: envelope.secret('{name}')"
    output.done(sentence, secret=name, result=version)
