"""Records where the database's keys belong, before the first key, and compares it ever after."""

from __future__ import annotations

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.instance import home
from pg_envelope.backend.link import Link
from pg_envelope.backend.sqltext import literal

INSTALLATION = "SELECT database_uuid::text AS uuid, environment FROM envelope_private.installation"
RECORD = """
INSERT INTO envelope_private.installation AS i (environment, home, home_name) SELECT $1, $2, current_database()
WHERE EXISTS (SELECT FROM envelope_private.installation) OR NOT EXISTS (SELECT FROM envelope_private.dek)
ON CONFLICT (only_row) DO UPDATE SET environment = excluded.environment WHERE i.environment IS NULL"""


class Nameless(errors.NotConfigured):
    """The database uuid is lost, and there are keys under it. A new uuid could not open them."""

    text = "the key catalog does not say any more which database its keys belong to"
    default_hint = (
        "Restore the row of envelope_private.installation from a dump. Without its database_uuid no key opens:"
        " see docs/runbooks/restore.md."
    )


def installed(host: Host, link: Link) -> Row:
    """Returns `uuid` and `environment` of this database. Draws and records them when there is no key yet. Raises
    Nameless.
    """
    row = host.row(INSTALLATION)
    if row is None or row["environment"] is None:
        host.rows(RECORD, ["text", "text"], [link.ask("status")["environment"], home()])
        row = host.row(INSTALLATION)
    if row is None:
        raise Nameless
    return row


def check(host: Host, told: wire.Message) -> Row:
    """Returns a row of status(); `told` is the broker's answer."""
    row = host.row(INSTALLATION)
    mine, theirs = (row["environment"] if row else None), str(told["environment"])
    if mine is None or mine == theirs:
        return _row("ok", theirs if mine else f"{theirs}; this database has no keys yet", None)
    hint = (
        "The broker's environment was changed, or this is a copy: see docs/environments.md. No key opens here until it"
        f" is {mine} again, or CALL envelope.rekey({literal(mine)}) has moved a copy."
    )
    return _row("failed", f"the keys belong to environment {mine}, the broker to {theirs}", hint)


def _row(state: str, detail: str, hint: str | None) -> Row:
    return {"check_name": "environment", "state": state, "detail": detail, "hint": hint}
