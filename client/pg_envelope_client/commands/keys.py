"""pg-envelope key: named keys, their rotation, and who may use them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn, Kek, StoreName, Table
from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.registry import Registry

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession
    from pg_envelope_client.statements import Query

keys = Registry("Named keys: create, import, list, rotate, grant, revoke; columns and tables: rotate, emergency.")

SHOWN = ("name", "relation", "scope", "version", "state", "kek", "kek_version", "store", "granted_to")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="Name of the role, as in SQL.")]


class Kind(StrEnum):
    """The kind of a name: a named key, or a table."""

    KEY = "key"
    TABLE = "table"


@keys.command()
def create(
    name: Name,
    kek: Kek = "default",
    store: StoreName = None,
    dsn: Dsn = None,
) -> None:
    """Create a named key."""
    made = _run(dsn, statements.create_key(name, kek, store and store.value))
    output.done(f"Key {name} created under KEK {kek}.", key=name, kek=kek, result=made)


@keys.command("import")
def import_key(
    name: Name,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="How the key is written: docs/adopt.md lists the formats.")
    ],
    secret_file: Annotated[
        Path, typer.Option(metavar="FILE", help="A file with the key; mode 0600. - is the standard input.")
    ],
    kek: Kek = "default",
    store: StoreName = None,
    dsn: Dsn = None,
) -> None:
    """Take over a key of other software, for envelope.adopt() only."""
    from pg_envelope_client import secret_file as files
    from pg_envelope_client.database import session

    content = files.read(secret_file)
    with session(dsn) as server:
        files.import_legacy_key(server, name, form, content, kek, store and store.value)
    sentence = f"Legacy key {name} stored. Next: CALL envelope.adopt('TABLE', 'COLUMN', 'FORMAT', key => '{name}')"
    output.done(sentence, key=name)


@keys.command("list")
def list_keys(dsn: Dsn = None) -> None:
    """List keys with their state."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        rows = server.rows(statements.KEYS)
    output.print_rows(rows, SHOWN, "No keys. Next: pg-envelope protect TABLE COLUMN, or pg-envelope key create NAME")


@keys.command()
def rotate(
    name: Annotated[str, typer.Argument(metavar="NAME|TABLE", help="A named key, or a protected table.")],
    kind: Annotated[Kind | None, typer.Option("--as", help="The kind of NAME, if a key and a table have it.")] = None,
    dsn: Dsn = None,
) -> None:
    """Give a key, or all columns of a table, a new version; values already stored stay readable."""
    from pg_envelope_client.database import session

    with session(dsn) as server:
        found = kind or _kind(server, name)
        rotation = statements.rotate_key(name) if found is Kind.KEY else statements.rotate_table(name)
        version = server.value(rotation)
    hint = f" Older values: pg-envelope reencrypt {name}" if found is Kind.TABLE else ""
    output.done(f"New writes to {name} use the new key.{hint}", **{found.value: name, "result": version})


@keys.command("rotate-field")
def rotate_field(
    table: Table,
    column: Annotated[str, typer.Argument(metavar="COLUMN", help="The column's name, as it is.")],
    dsn: Dsn = None,
) -> None:
    """Give one protected column a new field key, under the same DEK; values already stored stay readable."""
    version = _run(dsn, statements.rotate_field(table, column))
    sentence = f"New writes to {table}.{column} use the new field key. Older values: pg-envelope reencrypt {table}"
    output.done(sentence, table=table, column=column, result=version)


@keys.command()
def emergency(
    table: Table,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What happened; the audit log keeps it.")],
    subject_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file with one tenant or subject in one line; - reads standard input. Default: all of them.",
        ),
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Keys may be known to others: new keys, old versions compromised, all values re-encrypted."""
    from pg_envelope_client import progress, subject
    from pg_envelope_client.commands.tables import resumable
    from pg_envelope_client.database import session
    from pg_envelope_client.secret_file import keep_unlogged

    whose = None if subject_file is None else subject.read(subject_file)

    with (
        resumable(f"pg-envelope reencrypt {table}"),
        progress.watching(table) as watcher,
        session(dsn, on_notice=watcher) as server,
    ):
        if whose is not None:
            keep_unlogged(server)
        server.run(statements.rotate_emergency(table, reason, whose))
    output.done(f"{table}: no value is under an old key any more. Next: docs/runbooks/emergency.md", table=table)


def _kind(server: ServerSession, name: str) -> Kind:
    found = {
        Kind.KEY: server.value(statements.key_exists(name)),
        Kind.TABLE: server.has_table(name),
    }
    if all(found.values()):
        raise usage(f"{name} is a key and a table", hint="Say which: --as key or --as table")
    if not any(found.values()):
        raise Problem(f"there is no key and no table named {name}", hint="See: pg-envelope key list")
    return Kind.KEY if found[Kind.KEY] else Kind.TABLE


@keys.command()
def grant(name: Name, role: Role, dsn: Dsn = None) -> None:
    """Let a role encrypt and decrypt with a named key."""
    _run(dsn, statements.grant_key(name, role))
    output.done(f"{role} may use key {name}.", key=name, role=role)


@keys.command()
def revoke(name: Name, role: Role, dsn: Dsn = None) -> None:
    """Take a role's right to a named key away."""
    _run(dsn, statements.revoke_key(name, role))
    output.done(f"{role} may no longer use key {name}.", key=name, role=role)


def _run(dsn: str | None, statement: Query) -> object:
    from pg_envelope_client.database import session

    with session(dsn) as server:
        return server.value(statement)
