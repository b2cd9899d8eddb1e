"""Gathers the facts of the report: each by one statement that anybody can run again."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg

from pg_envelope_client import statements
from pg_envelope_client.statements import Query

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession

STATUS = "SELECT detail AS value, state = 'ok' AS holds FROM envelope.status() WHERE check_name = '{}'"
CAREFUL = ("SET search_path = pg_catalog, pg_temp", "SET statement_timeout = '60s'", "SET lock_timeout = '5s'")


class UnseenFact(Exception):
    """Says why a fact cannot be seen. The error's text is left out, and its SQLSTATE is told."""


@dataclass(frozen=True)
class EvidenceFact:
    """A fact: it holds (True), does not hold (False), or a person must judge (None). `how` is what anybody can run."""

    title: str
    value: str
    holds: bool | None
    how: str


Answer = tuple[str, bool | None]
NO_ANSWER: Answer = ("not seen: there is no answer", None)
Facts = Mapping[str, EvidenceFact]


def gather(server: ServerSession, others: Facts) -> dict[str, EvidenceFact]:
    """Returns all facts by name. `others` are those that no statement can see."""
    for setting in CAREFUL:
        server.run(Query(setting))
    checks = _checks(server)
    return {name: others.get(name) or _seen(server, given, checks) for name, given in declared().items()}


def declared() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("facts.toml").read_text(encoding="utf-8"))


def statement_of(given: Mapping[str, str]) -> str:
    """Returns the fact's SQL in one line, or "" where SQL cannot see it."""
    return " ".join((given.get("sql") or (STATUS.format(given["status"]) if "status" in given else "")).split())


def _checks(server: ServerSession) -> Mapping[str, Answer]:
    """One call answers for all facts that are checks of envelope.status(), because each call asks the KMS."""
    try:
        rows = _tried(server, statements.STATUS)
    except UnseenFact as unseen:
        said: Answer = (str(unseen), None)
        return defaultdict(lambda: said)
    return {row["check_name"]: (row["detail"], row["state"] == "ok") for row in rows}


def _seen(server: ServerSession, given: Mapping[str, str], checks: Mapping[str, Answer]) -> EvidenceFact:
    statement = statement_of(given)
    if not statement:
        return EvidenceFact(given["title"], "not seen from here", None, given["how"])
    value, holds = _checked(checks, given["status"]) if "status" in given else _asked(server, statement)
    return EvidenceFact(given["title"], value, holds, statement)


def _checked(checks: Mapping[str, Answer], name: str) -> Answer:
    try:
        return checks[name]
    except KeyError:
        return NO_ANSWER


def _asked(server: ServerSession, statement: str) -> Answer:
    try:
        rows = _tried(server, Query(statement.replace("%", "%%")))
    except UnseenFact as unseen:
        return str(unseen), None
    return (str(rows[0]["value"]), rows[0]["holds"]) if rows else NO_ANSWER


def _tried(server: ServerSession, statement: Query) -> list[dict[str, Any]]:
    """An error makes facts unknown, and ends nothing. Raises UnseenFact."""
    try:
        return server.rows(statement)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise UnseenFact(f"not seen: SQLSTATE {error.sqlstate}") from None


def as_json(facts: Facts) -> dict[str, dict[str, Any]]:
    return {name: asdict(fact) for name, fact in facts.items()}
