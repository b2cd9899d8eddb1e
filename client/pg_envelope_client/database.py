"""Opens one connection to the server for one command. The server's reports become a Problem or a notice."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.rows import DictRow, dict_row

from pg_envelope_client import output, statements
from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.statements import Query

PREFIX = "pg_envelope: "
NOT_INSTALLED = {"3F000", "42883", "42P01"}
NO_RELATION_NAME = (psycopg.errors.InvalidName, psycopg.errors.SyntaxError, psycopg.errors.FeatureNotSupported)
HINTS = {
    "42501": "Connect as a role that may, such as a superuser: --dsn 'user=...' or PGUSER.",
    "42602": "Names are written as in SQL: '\"Odd Name\"' with double quotes, shop.customer with its schema.",
}
NO_PASSWORD_HINT = "Put the password into ~/.pgpass (or the file that PGPASSFILE names), not into --dsn."  # noqa: S105
Listener = Callable[[str], None]


@contextmanager
def session(dsn: str | None = None, on_notice: Listener = output.note) -> Iterator[ServerSession]:
    """Yields a connection in autocommit, by the conninfo `dsn` and libpq's environment. Raises Problem."""
    connection = _connect(dsn or "")
    connection.add_notice_handler(lambda report: on_notice(_stripped(report.message_primary)))
    try:
        yield ServerSession(connection)
    except psycopg.Error as error:
        raise server_problem(error) from None
    finally:
        connection.close()


class ServerSession:
    """Runs statements; rows are dicts."""

    def __init__(self, connection: psycopg.Connection[DictRow]) -> None:
        self._connection = connection

    def run(self, statement: Query) -> None:
        self._connection.execute(statement.sql, statement.values)

    @property
    def place(self) -> str:
        """A text that tells a person which database the command works on, and as which role."""
        info = self._connection.info
        return f"database {info.dbname} on {info.host} port {info.port}, as {info.user}"

    def cancel(self) -> None:
        """Ends the statement that another thread runs here."""
        self._connection.cancel_safe()

    def rows(self, statement: Query) -> list[dict[str, Any]]:
        return self._connection.execute(statement.sql, statement.values).fetchall()

    def value(self, statement: Query) -> Any:
        """Returns the column `result` of the only row."""
        return self.rows(statement)[0]["result"]

    def has_table(self, name: str) -> bool:
        """Tells whether there is a table or view of this name. The name need not be a name of SQL at all."""
        try:
            return bool(self.value(statements.table_exists(name)))
        except NO_RELATION_NAME:
            return False


def _connect(dsn: str) -> psycopg.Connection[DictRow]:
    _check_dsn(dsn)
    try:
        return _opened(dsn)
    except psycopg.OperationalError as error:
        if not _wants_password(error):
            raise connection_problem(str(error)) from None
    ask_password()
    try:
        return _opened(dsn)
    except psycopg.Error as error:
        raise connection_problem(str(error)) from None


def _opened(dsn: str) -> psycopg.Connection[DictRow]:
    return psycopg.connect(dsn, autocommit=True, row_factory=dict_row, fallback_application_name="pg-envelope")


def _wants_password(error: psycopg.OperationalError) -> bool:
    """Tells whether the server asked for a password, nobody gave one, and a person can be asked."""
    return bool(error.pgconn and error.pgconn.needs_password) and sys.stdin.isatty()


def ask_password() -> None:
    """Asks for the password unseen, and keeps it where libpq looks, for all connections of this command. Raises
    Problem.
    """
    if not sys.stdin.isatty():
        raise usage("there is no terminal to ask for the password", hint=NO_PASSWORD_HINT)
    os.environ["PGPASSWORD"] = getpass.getpass("Password: ")


def conninfo(dsn: str, parts: Mapping[str, str]) -> str:
    """Returns the connection string `dsn` with these parts instead of its own. Raises Problem."""
    try:
        return make_conninfo(dsn, **parts)
    except psycopg.Error:
        raise _no_conninfo() from None


def _no_conninfo() -> Problem:
    # libpq's own message repeats parts of the string, which may hold a password.
    return usage("--dsn is not a connection string", hint="For example: 'host=db.example dbname=shop user=dba'")


def _check_dsn(dsn: str) -> None:
    try:
        settings = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise _no_conninfo() from None
    if settings.get("password"):
        output.note(f"warning: a password in --dsn shows in the process list. {NO_PASSWORD_HINT}", style="yellow")


def connection_problem(text: str) -> Problem:
    """Returns the Problem for a connection that libpq could not make, from libpq's message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Problem("cannot connect to PostgreSQL", detail="\n".join(lines), hint=_connection_hint(text))


def _connection_hint(text: str) -> str | None:
    hints = {
        "Connection refused": "Is the server up, and does it listen there? Check --dsn, PGHOST, PGPORT; pg_isready.",
        "No such file or directory": "No server at that socket. Set PGHOST, or --dsn 'host=...', to where it listens.",
        "no password supplied": NO_PASSWORD_HINT,
        "password authentication failed": NO_PASSWORD_HINT,
        "could not translate host name": "Check the host in --dsn or PGHOST.",
        "certificate": "Check sslmode and sslrootcert (PGSSLMODE, PGSSLROOTCERT).",
    }
    return next((hint for sign, hint in hints.items() if sign in text), None)


def server_problem(error: psycopg.Error) -> Problem:
    """Returns the Problem for an error that the server reported, or for a connection that was lost."""
    report = error.diag
    if report.message_primary is None:
        return Problem("the connection to PostgreSQL was lost", detail=str(error).strip() or None)
    message = f"{_stripped(report.message_primary)} (SQLSTATE {error.sqlstate})"
    return Problem(message, detail=report.message_detail, hint=_hint(report), sqlstate=error.sqlstate)


def _hint(report: Diagnostic) -> str | None:
    if report.sqlstate in NOT_INSTALLED and "envelope" in (report.message_primary or ""):
        return "Is the extension in this database, in this command's version? CREATE EXTENSION pg_envelope"
    return report.message_hint or HINTS.get(report.sqlstate or "")


def _stripped(message: str | None) -> str:
    return (message or "").removeprefix(PREFIX)
