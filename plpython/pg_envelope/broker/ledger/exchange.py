"""Reads the ledger of erasures beside the broker, and takes over another broker's ledger."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from uuid import UUID

from pg_envelope import errors
from pg_envelope.broker.ledger.erasures import DyingDek, Erasures
from pg_envelope.broker.ledger.ledger import Entry, public_key_of, verified
from pg_envelope.broker.settings.config import load

KEPT = ("time", "who", "label", "subject", "salt", "reason")


def entries(config: Path) -> list[Entry]:
    """Returns all entries, verified. The broker may run meanwhile. Raises NotConfigured."""
    path = load(config).broker.erasures
    return [entry for _, _, entry in verified(path, public_key_of(path))]


def public_key(config: Path) -> str:
    return base64.b64encode(public_key_of(load(config).broker.erasures)).decode()


def take_over(config: Path, source: Path, key: str) -> tuple[int, int]:
    """Adds the entries of another ledger, verified with its key. Returns (entries added, entries known). Raises
    NotConfigured.
    """
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raise errors.BadInput("the public key is not base64") from None
    # All of it is read before the first entry is written, because the signature stands at the end.
    found = [entry for _, _, entry in verified(source, raw)]
    erasures = Erasures(load(config).broker.erasures)
    try:
        added = sum(_add(erasures, entry, key) for entry in found)
    finally:
        erasures.close()
    return added, len(found) - added


def _add(erasures: Erasures, entry: Entry, key: str) -> bool:
    database = UUID(entry["database"])
    deks = [DyingDek(dek[0], bytes.fromhex(dek[1]), *dek[2:]) for dek in entry["deks"]]
    alive = [dek for dek in deks if not erasures.dead(database, dek.dek_id, dek.fingerprint)]
    if alive:
        facts = {name: entry[name] for name in KEPT}
        erasures.add(database, alive, {**facts, "from": {"ledger": key, "line": entry["n"]}})
    return bool(alive)
