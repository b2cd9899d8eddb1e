"""Makes the local keyring: KEKs in a file sealed with a passphrase, for machines without a KMS."""

from __future__ import annotations

from pathlib import Path

from pg_envelope import errors
from pg_envelope_client.problems import Problem
from pg_envelope_client.setup.plan import LocalPlan
from pg_envelope_client.setup.steps import Steps


def prepare(plan: LocalPlan, steps: Steps) -> None:
    """Make keyring and KEK where they are missing. Raises Problem if the keyring does not open."""
    try:
        _prepare(plan, steps)
    except errors.EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None


def _prepare(plan: LocalPlan, steps: Steps) -> None:
    from pg_envelope.broker.kms.providers import local
    from pg_envelope.broker.system import files

    keyring = Path(plan.keyring_file)
    passphrase = files.read_secret(Path(plan.passphrase_file))
    if keyring.exists():
        steps.add(f"keyring {keyring}", "already there")
    else:
        local.create_keyring(keyring, passphrase)
        steps.add(f"keyring {keyring}", "created")
    if _has_kek(plan):
        steps.add(f"KEK {plan.kek}", "already there")
    else:
        local.add_kek(keyring, passphrase, plan.key)
        steps.add(f"KEK {plan.kek}", "created")


def _has_kek(plan: LocalPlan) -> bool:
    from pg_envelope.broker.kms.providers.local import Local
    from pg_envelope.broker.settings import config

    settings = config.LocalSettings(Path(plan.keyring_file), Path(plan.passphrase_file))
    try:
        Local(settings).describe(plan.key)
    except errors.KekUnknown:
        return False
    return True
