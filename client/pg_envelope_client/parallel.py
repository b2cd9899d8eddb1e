"""Runs statements at the same time, each in a session and a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import psycopg

from pg_envelope_client.database import Listener, ServerSession, server_problem, session
from pg_envelope_client.problems import Problem
from pg_envelope_client.statements import Query

LOOK_SECONDS = 0.25


def run_all(dsn: str | None, made: Sequence[Query], on_notice: Listener, look: Callable[[], None]) -> None:
    """Ends when all have ended, and calls `look` now and then. Raises the first Problem. An interrupt cancels all."""
    problems: list[Problem] = []
    with ExitStack() as opened:
        servers = [opened.enter_context(session(dsn, on_notice)) for _ in made]
        threads = [
            threading.Thread(target=_run, args=(server, statement, problems))
            for server, statement in zip(servers, made, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            _watch(threads, look)
        except BaseException:
            for server in servers:
                server.cancel()
            raise
        finally:
            for thread in threads:
                thread.join()
    if problems:
        raise problems[0]


def _watch(threads: Sequence[threading.Thread], look: Callable[[], None]) -> None:
    while any(thread.is_alive() for thread in threads):
        look()
        for thread in threads:
            thread.join(LOOK_SECONDS / len(threads))
    look()


def _run(server: ServerSession, statement: Query, problems: list[Problem]) -> None:
    try:
        server.run(statement)
    except psycopg.Error as error:
        problems.append(server_problem(error))
