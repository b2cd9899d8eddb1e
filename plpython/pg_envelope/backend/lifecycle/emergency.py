"""Carries out rotate_emergency(): it replaces keys at once that others may know."""

from __future__ import annotations

import json

from pg_envelope import errors
from pg_envelope.backend.commits import begin
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.receipt import Missing
from pg_envelope.backend.jobs.reencrypt import Reencryption
from pg_envelope.backend.jobs.walker import Pace
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE
from pg_envelope.backend.lifecycle.scope_emergency import ScopeEmergency
from pg_envelope.backend.lifecycle.signing import Signing
from pg_envelope.backend.link import Link
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.scope_values import ScopeColumn

CHANNEL = "envelope"
# The table itself, and the tables that share its tenants' or subjects' keys.
TABLES = "SELECT base FROM envelope_private.protected_table WHERE scope_key = $1 ORDER BY base"


def rotate_emergency(host: Host, link: Link, keys: Keys, oid: int, scope: str | None, reason: str) -> None:
    """Makes new keys at once and the old ones compromised, and then re-encrypts every value.

    Raises BadInput, KeyNotFound, KeyDestroyed, KeySuspended, Unavailable, or the error that ends a re-encryption.
    """
    if not reason.strip():
        raise errors.BadInput("rotate_emergency() needs a reason", hint="The reason goes to the audit log.")
    begin(host, "rotate_emergency")
    # It marks several DEKs, the newest first. A batch of rewrap() writes several, the oldest first. So they do not run
    # at the same time.
    host.run(ONE_BY_ONE)
    key = catalog.key_of(host, oid)
    if key["scope"] != "table":
        scopes = None if scope is None else ScopeColumn.of(host, oid).known(scope)
        ScopeEmergency(host, link, key, reason).run(scopes)
        _notify(host, key, {})
    elif scope is None:
        _of_table(host, keys, key, reason)
    else:
        raise errors.BadInput("the table has one key for all rows", hint="Leave the tenant or subject out.")
    host.commit()
    _forget(link, reason)
    unsigned = [
        error
        for row in host.rows(TABLES, ["uuid"], [key["scope_key"]])
        if (error := _reencrypted(host, Signing(host, link, keys), row["base"]))
    ]
    # To read old values, sessions had to fetch the old keys once more.
    _forget(link, reason)
    if unsigned:
        raise unsigned[0]


def _of_table(host: Host, keys: Keys, key: Row, reason: str) -> None:
    version = keys.rotate(str(key["key_uuid"]), reason)
    compromised = keys.compromise_old(str(key["key_uuid"]), reason)
    _notify(host, key, {"version": version})
    host.notice(
        f"rotate_emergency: new writes use version {version}; compromised: {', '.join(map(str, compromised))}",
        hint="If this ends early: CALL envelope.reencrypt(...) goes on.",
    )


def _reencrypted(host: Host, signing: Signing, base: int) -> Missing | None:
    """Re-encrypts. When it returns an error, all is done but the signature of the receipt."""
    try:
        Reencryption(host, signing, base).run(Pace(newest_first=True), take_over=True)
    except Missing as error:
        return error
    return None


def _forget(link: Link, reason: str) -> None:
    link.ask("flush", reason=reason)


def _notify(host: Host, key: Row, more: dict[str, object]) -> None:
    """Notifies at the commit. Every role can listen, so the text names only the table, and no person."""
    told = {"event": "rotate_emergency", "relation": key["view_name"] or key["base_name"], **more}
    host.rows("SELECT pg_notify($1, $2)", ["text", "text"], [CHANNEL, json.dumps(told)])
