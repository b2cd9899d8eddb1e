"""Makes the keyring file: KEKs in a file sealed with a passphrase, for machines without a KMS."""

from __future__ import annotations

from pathlib import Path

from pg_envelope import errors
from pg_envelope_client.problems import Problem
from pg_envelope_client.setup.plan import KeyringPlan
from pg_envelope_client.setup.steps import Steps


def prepare(plan: KeyringPlan, steps: Steps) -> None:
    """Makes keyring and KEK where they are missing. Raises Problem if the keyring does not open."""
    try:
        _prepare(plan, steps)
    except errors.EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None


def _prepare(plan: KeyringPlan, steps: Steps) -> None:
    from pg_envelope.broker.kms.providers import keyring_file
    from pg_envelope.broker.system import files

    keyring = Path(plan.keyring_file)
    passphrase = files.read_secret(Path(plan.passphrase_file))
    if keyring.exists():
        steps.add(f"keyring {keyring}", "already there")
    else:
        keyring_file.create_keyring(keyring, passphrase)
        steps.add(f"keyring {keyring}", "created")
    if _has_kek(plan):
        steps.add(f"KEK {plan.kek}", "already there")
    else:
        keyring_file.add_kek(keyring, passphrase, plan.key)
        steps.add(f"KEK {plan.kek}", "created")


def _has_kek(plan: KeyringPlan) -> bool:
    from pg_envelope.broker.kms.providers.keyring_file import Keyring
    from pg_envelope.broker.settings import config

    settings = config.KeyringSettings(Path(plan.keyring_file), Path(plan.passphrase_file))
    try:
        Keyring(settings).describe(plan.key)
    except errors.KekUnknown:
        return False
    return True
