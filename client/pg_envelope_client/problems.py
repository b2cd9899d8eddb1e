"""Defines the errors of the command, in the form a person can act on: message, detail, hint, exit code."""

from __future__ import annotations

FAILED = 1
USAGE = 2
INTERRUPTED = 130


class Problem(Exception):
    """Ends the command with one message, and what the server or the KMS added. It never holds a secret."""

    def __init__(
        self,
        message: str,
        detail: str | None = None,
        hint: str | None = None,
        exit_code: int = FAILED,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code
        self.sqlstate = sqlstate


def usage(message: str, hint: str | None = None) -> Problem:
    """Returns a Problem for arguments that make no sense (exit code 2)."""
    return Problem(message, hint=hint, exit_code=USAGE)
