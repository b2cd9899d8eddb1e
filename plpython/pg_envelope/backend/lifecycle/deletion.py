"""Looks for KEKs that can be deleted in their KMS under the data. Refuses them where one setting forbids it; warns
elsewhere.
"""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row

# A key that is deleted there is gone at once and for good. One command forbids the deletion.
REFUSED = "vault"


class DeletableKek(errors.NotConfigured):
    text = "the KEK may be deleted in its KMS, and all its data would be lost"
    default_hint = "bao write transit/keys/NAME/config deletion_allowed=false"


def check(host: Host, told: Row) -> None:
    """`told` is the broker's answer about the KEK. Raises DeletableKek."""
    if told.get("deletable") is not True:
        return
    if told["provider"] == REFUSED:
        raise DeletableKek
    host.warning(
        DeletableKek.text,
        detail=f"provider {told['provider']}",
        hint="See docs/providers.md for how to forbid it, or who must not have that right.",
    )
