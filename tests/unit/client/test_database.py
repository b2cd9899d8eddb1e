"""What libpq reports, as a person reads it."""

from __future__ import annotations

import pytest

from pg_envelope_client.database import connection_problem, session
from pg_envelope_client.problems import USAGE, Problem


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('connection to server at "h", port 1 failed: Connection refused\n\tIs the server running?', "pg_isready"),
        ('connection to server on socket "/x" failed: No such file or directory', "PGHOST"),
        ("fe_sendauth: no password supplied", "pgpass"),
        ('FATAL:  password authentication failed for user "a"', "pgpass"),
        ('could not translate host name "h" to address', "Check the host"),
    ],
)
def test_connection_problems_say_what_to_check(text: str, hint: str) -> None:
    problem = connection_problem(text)
    assert problem.message == "cannot connect to PostgreSQL"
    assert problem.hint
    assert hint in problem.hint
    assert problem.detail == "\n".join(line.strip() for line in text.splitlines())


def test_a_broken_dsn_is_not_repeated() -> None:
    with pytest.raises(Problem) as caught, session("host=h s3cret"):
        pass
    assert caught.value.exit_code == USAGE
    assert "s3cret" not in f"{caught.value.message}{caught.value.detail}{caught.value.hint}"
