"""Makes a provider from its settings. It imports an SDK only for a provider that is configured."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from pg_envelope import errors
from pg_envelope.broker.kms.providers.base import Provider
from pg_envelope.broker.settings.kms import (
    AwsSettings,
    AzureSettings,
    GoogleSettings,
    KeyringSettings,
    KmipSettings,
    KmsSettings,
    Pkcs11Settings,
    SecretsSettings,
    VaultSettings,
)

Report = Callable[[errors.EnvelopeError], None]

# The module that holds a provider, beside this one, and the class in it.
PLACES: dict[type[Any], tuple[str, str]] = {
    VaultSettings: ("vault", "Vault"),
    KeyringSettings: ("keyring_file", "Keyring"),
    SecretsSettings: ("secrets", "SecretsProvider"),
    AwsSettings: ("aws", "Aws"),
    Pkcs11Settings: ("pkcs11", "Pkcs11"),
    AzureSettings: ("azure", "Azure"),
    GoogleSettings: ("google", "Google"),
    KmipSettings: ("kmip", "Kmip"),
}


def make_provider(settings: KmsSettings, report: Report) -> Provider:
    """Makes a provider; `report` hears of every login that failed. Raises NotConfigured when the provider's extra is
    missing.
    """
    module, name = PLACES[type(settings)]
    try:
        kind: Callable[..., Provider] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    except ModuleNotFoundError as error:
        raise errors.NotConfigured(
            f"the Python package of provider '{settings.provider}' is not installed",
            detail=f"There is no module {error.name}.",
            hint=f'make install EXTRAS="{settings.extra}"; see docs/providers.md.',
        ) from None
    return kind(settings, report) if isinstance(settings, VaultSettings) else kind(settings)
