"""Writes the broker's policy in Vault or OpenBao: what it needs for its KEKs and wrapped DEKs, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pg_envelope_client.problems import Problem

Rule = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Places:
    """The mounts and the path that a policy is for."""

    transit_mount: str
    kv_mount: str
    kv_path: str

    def heading(self) -> str:
        """Returns the first line of the policy, which tells a policy of this setup from anyone else's."""
        return f"# pg-envelope init: transit={self.transit_mount} kv={self.kv_mount}/{self.kv_path}"


def text(places: Places, keys: Iterable[str], *, allow_shred: bool = False) -> str:
    """Returns the policy for the transit keys `keys`, in HCL. With `allow_shred` the broker may also delete wrapped
    DEKs for good.
    """
    rules = [rule for key in sorted(set(keys)) for rule in _key_rules(places.transit_mount, key)]
    rules += [
        # create and update, since a rewrapped DEK replaces the older wrap. Every write is check-and-set.
        (f"{places.kv_mount}/data/{places.kv_path}/*", ("create", "read", "update")),
        # Checkpoints of the ledger of reads: without `update` an entry stays as it is.
        (f"{places.kv_mount}/data/{places.kv_path}_anchor/*", ("create", "read")),
        ("auth/token/lookup-self", ("read",)),
        ("auth/token/renew-self", ("update",)),
        ("auth/token/revoke-self", ("update",)),
    ]
    if allow_shred:
        rules.append(_shred_rule(places))
    return "\n".join([places.heading(), *map(_stanza, rules)]) + "\n"


def allows_shred(places: Places, policy: str) -> bool:
    """Tells whether an existing policy of this setup was made with `allow_shred`."""
    return _stanza(_shred_rule(places)) in policy.splitlines()


def _shred_rule(places: Places) -> Rule:
    return f"{places.kv_mount}/metadata/{places.kv_path}/*", ("delete",)


def _key_rules(mount: str, key: str) -> list[Rule]:
    # datakey/plaintext is left out on purpose, because such a DEK is used without a record of its unwrapping.
    return [
        (f"{mount}/keys/{key}", ("read",)),
        (f"{mount}/keys/{key}/rotate", ("update",)),
        (f"{mount}/datakey/wrapped/{key}", ("update",)),
        # These are for DEKs of tenants and subjects, which the broker draws, and for DEKs that move here from
        # elsewhere.
        (f"{mount}/encrypt/{key}", ("update",)),
        (f"{mount}/decrypt/{key}", ("update",)),
        (f"{mount}/rewrap/{key}", ("update",)),
    ]


def _stanza(rule: Rule) -> str:
    path, capabilities = rule
    quoted = ", ".join(f'"{capability}"' for capability in capabilities)
    return f'path "{path}" {{ capabilities = [{quoted}] }}'


def keys_of(places: Places, policy: str, name: str) -> set[str]:
    """Returns the transit keys that an existing policy covers. Raises Problem if it is not a policy of this setup."""
    if policy.splitlines()[:1] != [places.heading()]:
        raise Problem(
            f"policy {name} exists and belongs to something else",
            detail=f"Its first line is not: {places.heading()}",
            hint="Choose another name with --policy-name.",
        )
    return set(re.findall(rf'^path "{re.escape(places.transit_mount)}/keys/([A-Za-z0-9._-]+)" ', policy, re.MULTILINE))
