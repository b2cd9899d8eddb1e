"""What must hold before the broker starts: secrets that are there, and that nobody else can read or replace."""

from __future__ import annotations

from pathlib import Path

from pg_envelope.broker import files
from pg_envelope.broker.config import Config
from pg_envelope.broker.kms_settings import Secrets
from pg_envelope.broker.providers import secrets


def check_secrets(config: Config) -> None:
    """Raises NotConfigured for a secret file that is missing or open to others, or a secret that is not fit."""
    for path in secret_files(config):
        files.read_private(path)
    for settings, key in secret_keks(config):
        secrets.check(settings, key)


def secret_files(config: Config) -> list[Path]:
    return [path for settings in config.kms.values() for path in settings.secret_files]


def secret_keks(config: Config) -> list[tuple[Secrets, str]]:
    """The KEKs that are made from secrets in the environment: settings and key."""
    found = ((config.kms[kek.kms], kek.key) for kek in config.kek.values())
    return [(settings, key) for settings, key in found if isinstance(settings, Secrets)]
