"""A provider whose packages are not installed says so, and how to get them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pg_envelope import errors
from pg_envelope.broker.kms.providers import make
from pg_envelope.broker.settings import kms as kms_settings

CASES = {
    "hvac": kms_settings.VaultSettings("https://kms", kms_settings.TokenFile(Path("/t"))),
    "boto3": kms_settings.AwsSettings("eu-central-1"),
    "pkcs11": kms_settings.Pkcs11Settings(Path("/m.so"), "t", Path("/pin")),
    "azure.identity": kms_settings.AzureSettings("https://v.vault.azure.net"),
    "google.cloud": kms_settings.GoogleSettings("projects/p/locations/global/keyRings/r"),
    "kmip.core": kms_settings.KmipSettings("kms", Path("/c.pem"), Path("/c.key")),
}


@pytest.mark.parametrize("package", CASES)
def test_a_missing_package(monkeypatch, package):
    settings = CASES[package]
    for name in [
        name for name in sys.modules if name.startswith(f"pg_envelope.broker.kms.providers.{settings.provider}")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(errors.NotConfigured, match=f"'{settings.provider}' is not installed") as caught:
        make.make_provider(settings, lambda error: None)
    assert f'EXTRAS="{settings.extra}"' in caught.value.hint


def test_every_kind_of_settings_has_its_place():
    assert set(make.PLACES) == set(kms_settings.KmsSettings.__args__)
