"""Brings a passphrase or key from a private file into the database, not through SQL text or the server's log."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.statements import Query

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession

MAX_BYTES = 1024 * 1024
STDIN = Path("-")
# log_statement, log_min_duration_statement and auto_explain would write the parameters down.
UNLOGGED = Query(
    "SELECT set_config('log_parameter_max_length', '0', false),"
    " set_config('log_parameter_max_length_on_error', '0', false),"
    " set_config('auto_explain.log_parameter_max_length', '0', false)"
)


def read(path: Path) -> bytes:
    """Returns the file's bytes; `-` is the standard input. Raises Problem when others may read the file, or when it is
    empty or too long.
    """
    content = sys.stdin.buffer.read(MAX_BYTES + 1) if path == STDIN else _of_file(path)
    if not content or len(content) > MAX_BYTES:
        raise Problem(f"{path} holds no secret", detail=f"a secret has 1 to {MAX_BYTES} bytes")
    return content


def _of_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise Problem(f"cannot read {path}", detail=error.strerror) from None
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise Problem(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 0600 {path}")
    return content


def passphrase(content: bytes, path: Path) -> str:
    """Returns the file's text without the newline at its end."""
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise usage(f"{path} holds no text", hint="For a raw key, or an OpenPGP key: --bytes")
    return text


def store_secret(name: str, secret: str | bytes, kek: str, store: str | None, dsn: str | None) -> int:
    """Lets the server seal a new secret, or its next version. Returns the version. Raises Problem where the server's
    log would show the secret.
    """
    from pg_envelope_client.database import session

    kind = "text" if isinstance(secret, str) else "bytea"
    imported = f"SELECT envelope.import_secret(%s::text, %s::{kind}, %s::text, %s::text) AS result"
    replaced = f"SELECT envelope.replace_secret(%s::text, %s::{kind}) AS result"
    with session(dsn) as server:
        keep_unlogged(server)
        if server.value(Query("SELECT EXISTS (SELECT FROM envelope.secrets WHERE name = %s::text) AS result", (name,))):
            return int(server.value(Query(replaced, (name, secret))))
        return int(server.value(Query(imported, (name, secret, kek, store))))


def import_legacy_key(
    server: ServerSession, name: str, form: str, secret: bytes, kek: str, store: str | None
) -> object:
    """Takes over a key of other software. Raises Problem where the server's log would show the secret."""
    keep_unlogged(server)
    statement = "SELECT envelope.import_legacy_key(%s::text, %s::text, %s::bytea, %s::text, %s::text) AS result"
    return server.value(Query(statement, (name, form, secret, kek, store)))


def keep_unlogged(server: ServerSession) -> None:
    """Keeps the parameters of the next statements out of the server's log. Raises Problem."""
    import psycopg

    try:
        server.run(UNLOGGED)
    except psycopg.errors.InsufficientPrivilege:
        raise Problem(
            "this role cannot keep the server's log from showing the secret",
            hint="Connect as a superuser, or GRANT SET ON PARAMETER log_parameter_max_length TO the role.",
        ) from None
