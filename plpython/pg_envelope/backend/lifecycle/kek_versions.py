"""Lists what the broker knows of KEKs' versions and users, for the time before old versions are retired in the KMS."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle.environment import INSTALLATION
from pg_envelope.backend.link import Link


def kms_versions(host: Host, link: Link) -> list[Row]:
    """Returns a row per KEK: the oldest version that opens, the newest, and other databases under it. None without a
    broker.
    """
    here = host.row(INSTALLATION) or {"uuid": None}
    try:
        known = link.ask("status")["keks"]
    except errors.EnvelopeError:
        return []
    return [
        {
            "kek": name,
            "oldest": told.get("oldest"),
            "newest": told.get("version"),
            "databases": sorted(
                f"{one['name']} ({one['uuid']})" for one in told["databases"] if one["uuid"] != here["uuid"]
            ),
        }
        for name, told in known.items()
    ]
