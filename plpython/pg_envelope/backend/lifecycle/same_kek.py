"""Checks whether a KEK is still the same: an earlier wrap must open.

Under the same name there can be another KEK: two secrets that were swapped, a keyring that was made anew, a transit key
that was deleted and made again. A key that is made then would be lost as soon as the right KEK is back.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.link import Link
from pg_envelope.backend.sqltext import NIL_UUID

# The sample has several DEKs, the newest first, because one alone may have been deleted in its store, or trimmed in the
# KMS.
SAMPLE = """
SELECT dek_id, kek, store, wrapped, fingerprint FROM envelope_private.dek
WHERE kek = $1 AND state NOT IN ('destroyed', 'suspended') ORDER BY dek_id DESC LIMIT 3"""
# The broker opens a DEK only to derive a field key. This field key belongs to no field, and is thrown away.
FIELD = {"key_id": 1, "field_uuid": NIL_UUID, "salt": wire.to_base64(bytes(32))}
HINT = (
    "Did somebody change the secrets, the keyring or the key in the KMS that [kek.{0}] names? Put the right ones back, "
    "and restart the broker. Was min_decryption_version raised in the KMS? If the KEK is lost, use another one."
)


class AnotherKek(errors.NotConfigured):
    text = "the KEK is not the one that wrapped this database's keys"


def check(host: Host, link: Link, kek: str, place: dict[str, str]) -> None:
    """Raises AnotherKek when none of the newest DEKs under the KEK opens. Returns when there is no DEK.

    `place` holds `database_uuid`, and may hold `environment`, so that a broker of another environment refuses.
    """
    rows = host.rows(SAMPLE, ["text"], [kek])
    if not rows:
        return
    found = list(_codes(link.ask("derive", **place, keys=[_request(row) for row in rows])))
    if "ok" not in found and errors.UnwrapFailed.code in found:
        tried = ", ".join(str(row["dek_id"]) for row in rows)
        raise AnotherKek(detail=f"It opens none of the DEKs {tried}. No key was made.", hint=HINT.format(kek))


def _request(row: Row) -> Row:
    dek = {name: row[name] for name in ("dek_id", "kek", "store", "wrapped")}
    fingerprint = wire.to_base64(row["fingerprint"])
    return {**dek, "fingerprint": fingerprint, "fields": [{**FIELD, "label": f"check of KEK {row['kek']}"}]}


def _codes(answer: wire.Message) -> Iterator[str]:
    """Yields the code of each DEK's answer: "ok" for a DEK that opened."""
    for one in answer["keys"]:
        yield wire.error_from(one["error"]).code if "error" in one else "ok"
