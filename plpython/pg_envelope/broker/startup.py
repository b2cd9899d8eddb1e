"""What must hold before the broker starts: secret files that nobody else can read or replace."""

from __future__ import annotations

from pathlib import Path

from pg_envelope.broker import files
from pg_envelope.broker.config import AppRole, Config, Local, Vault


def check_secrets(config: Config) -> None:
    """Raises NotConfigured for a secret file that is missing, or open to others."""
    for path in secret_files(config):
        files.read_private(path)


def secret_files(config: Config) -> list[Path]:
    return [path for settings in config.kms.values() for path in _files_of(settings)]


def _files_of(settings: Vault | Local) -> tuple[Path, ...]:
    if isinstance(settings, Local):
        return settings.keyring_file, settings.passphrase_file
    if isinstance(settings.auth, AppRole):
        return settings.auth.role_id_file, settings.auth.secret_id_file
    return (settings.auth.token_file,)
