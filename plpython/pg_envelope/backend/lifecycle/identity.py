"""Tells whether this database is the original or a copy. A copy must not destroy the keys that both have."""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.instance import home
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.link import Link
from pg_envelope.backend.sqltext import literal

HERE = """
SELECT database_uuid::text AS uuid, environment, home, home_name::text, current_database()::text AS name,
    pg_is_in_recovery() AS standby
FROM envelope_private.installation"""
CLAIM = """
UPDATE envelope_private.installation i SET home = $1, home_name = current_database()
FROM envelope_private.installation o RETURNING o.home, o.home_name::text"""
RUNBOOK = "docs/runbooks/copies.md"


class MaybeCopy(errors.NotConfigured):
    text = "this database may be a copy, and would destroy the keys of the original with its own"


def refuse_copy(host: Host) -> None:
    """To be called before a key is destroyed. Raises MaybeCopy."""
    here = host.row(HERE)
    if here is not None and here["home"] != home():
        raise MaybeCopy(detail=_difference(here), hint=_hint(here))


def refuse_twin(others: list[wire.Message], instance: str | None) -> None:
    """Raises MaybeCopy when the broker sees a twin. A copy of the whole machine has the same home, so only the broker
    can tell.
    """
    found = [other for other in others if _place_of(other["instance"]) == _place_of(instance)]
    if found:
        raise MaybeCopy(
            "two servers with this database, and with the same data directory, are alive",
            detail=_told(found),
            hint=f"Stop the copy, or CALL envelope.rekey(...) there; see {RUNBOOK}.",
        )


def check(host: Host, others: list[wire.Message]) -> Iterator[Row]:
    """Yields the row of status(); `others` is the broker's answer."""
    here = host.row(HERE)
    if here is None or here["standby"] or (here["home"] == home() and not others):
        yield _row("ok", _ok(here), None)
    elif here["home"] != home():
        yield _row("warning", f"this may be a copy. {_difference(here)}", _hint(here))
    else:
        hint = (
            "Keys that are erased here are destroyed there, too. CALL envelope.rekey(...) gives the copy its own keys:"
            f" {RUNBOOK}."
        )
        yield _row("warning", f"a copy of this database is alive: {_told(others)}", hint)


class Claim(Keys):
    """Carries out this_is_the_original(), in the caller's transaction."""

    def run(self) -> None:
        """Raises KeyNotFound when the database has no key yet."""
        row = self._host.row(CLAIM, ["text"], [home()])
        if row is None:
            raise errors.KeyNotFound("this database has no keys", hint="There is nothing to claim.")
        self._record("this_is_the_original", str(row["home_name"] or ""), [], f"home {home()}, before {row['home']}")
        others = others_of(self._link, self._database_uuid())
        if others:
            self._host.warning(
                f"another database with these keys is alive: {_told(others)}",
                hint="Keys that are destroyed here are destroyed there, too. If the other one is the original:"
                " SELECT envelope.this_is_the_original() there, and CALL envelope.rekey(...) here.",
            )


def others_of(link: Link, database: str) -> list[wire.Message]:
    """Returns the databases with the same uuid that the broker has seen alive beside this one."""
    told = link.ask("erasures", database_uuid=database, after=0, most=0, verify=False)
    found: list[wire.Message] = told.get("others", [])
    return found


def _place_of(instance: object) -> str:
    """Returns database and data directory, without the run of the server: FORMAT.md section 4."""
    return str(instance).rpartition("/")[0]


def _ok(here: Row | None) -> str:
    if here is None:
        return "this database has no keys yet"
    return "a standby of the original" if here["standby"] else f"{here['name']} is the original of its keys"


def _difference(here: Row) -> str:
    """Returns the parts of a home that differ: cluster, database, data directory."""
    was = f"database {here['home_name']}" if here["home_name"] else "a database that is not known"
    return f"Its keys were made in {was}, at {here['home']}; this is {here['name']}, at {home()}."


def _hint(here: Row) -> str:
    return (
        f"A copy: CALL envelope.rekey({literal(here['environment'] or '')}) gives it keys of its own."
        f" If the other one is gone for good: SELECT envelope.this_is_the_original(). See {RUNBOOK}."
    )


def _told(others: list[wire.Message]) -> str:
    return ", ".join(f"{other['database']}, {other['seconds']} s ago" for other in others)


def _row(state: str, detail: str, hint: str | None) -> Row:
    return {"check_name": "original", "state": state, "detail": detail, "hint": hint}
