"""Gathers the facts of the report: each by one statement that anybody can run again."""

from __future__ import annotations

import tomllib
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


@dataclass(frozen=True)
class EvidenceFact:
    """A fact: it holds (True), does not hold (False), or a person must judge (None). `how` is what anybody can run."""

    title: str
    value: str
    holds: bool | None
    how: str


Answer = tuple[str, bool | None]
UNSEEN: Answer = ("not seen: there is no answer", None)
Facts = Mapping[str, EvidenceFact]


def gather(server: ServerSession, others: Facts) -> dict[str, EvidenceFact]:
    """Returns all facts by name. `others` are those that no statement can see."""
    for setting in CAREFUL:
        server.run(Query(setting))
    # One call answers for all facts that are checks of envelope.status(), because each call asks the KMS.
    checks = {row["check_name"]: (row["detail"], row["state"] == "ok") for row in server.rows(statements.STATUS)}
    return {name: others.get(name) or _seen(server, given, checks) for name, given in declared().items()}


def declared() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("facts.toml").read_text(encoding="utf-8"))


def statement_of(given: Mapping[str, str]) -> str:
    """Returns the fact's SQL in one line, or "" where SQL cannot see it."""
    return " ".join((given.get("sql") or (STATUS.format(given["status"]) if "status" in given else "")).split())


def _seen(server: ServerSession, given: Mapping[str, str], checks: Mapping[str, Answer]) -> EvidenceFact:
    statement = statement_of(given)
    if not statement:
        return EvidenceFact(given["title"], "not seen from here", None, given["how"])
    value, holds = checks.get(given["status"], UNSEEN) if "status" in given else _asked(server, statement)
    return EvidenceFact(given["title"], value, holds, statement)


def _asked(server: ServerSession, statement: str) -> Answer:
    """An error makes one fact unknown. Its text is left out: only the SQLSTATE is told."""
    try:
        rows = server.rows(Query(statement.replace("%", "%%")))
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return f"not seen: SQLSTATE {error.sqlstate}", None
    return (str(rows[0]["value"]), rows[0]["holds"]) if rows else UNSEEN


def as_json(facts: Facts) -> dict[str, dict[str, Any]]:
    return {name: asdict(fact) for name, fact in facts.items()}
