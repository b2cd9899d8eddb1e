"""KEKs from two secrets in the environment: both are needed, both must be fit, and a new one is a new version."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pg_envelope import errors
from pg_envelope.broker.kms.providers import secrets
from pg_envelope.broker.kms.providers.base import Item, Plain
from pg_envelope.broker.settings.kms import SecretsSettings as Settings

BASE, PURPOSE, NEXT, OTHER = (letter * 4 + "0123456789-0123456789-012345" for letter in "abcd")
SETTINGS = Settings("BASE")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("BASE", BASE)
    monkeypatch.setenv("PG_ENVELOPE_SECRET_MY_KEK", PURPOSE)
    return monkeypatch


def test_the_wrap_is_what_the_format_says():
    (wrapped,) = secrets.SecretsProvider(SETTINGS).wrap("my-kek", [Plain("here", bytes(32))])
    material = len(BASE).to_bytes(4, "big") + BASE.encode() + PURPOSE.encode()
    derived = HKDF(SHA256(), 40, None, b"pg_envelope/1 secrets my-kek 1").derive(material)
    content = base64.b64decode(wrapped.removeprefix("secrets:v1:"))
    assert content[:8] == derived[32:]
    assert AESGCM(derived[:32]).decrypt(content[8:20], content[20:], b"here") == bytes(32)


@pytest.mark.parametrize("changed", ["BASE", "PG_ENVELOPE_SECRET_MY_KEK"])
def test_either_secret_alone_opens_nothing(environment, changed):
    wrapped = secrets.SecretsProvider(SETTINGS).generate("my-kek", "here")
    environment.setenv(changed, OTHER)
    (found,) = secrets.SecretsProvider(SETTINGS).unwrap("my-kek", [Item("here", wrapped)])
    assert isinstance(found, errors.UnwrapFailed)
    assert "other secrets" in found.detail


@pytest.mark.parametrize("name", ["BASE", "PG_ENVELOPE_SECRET_MY_KEK"])
@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("", "is not set"),
        ("x" * 31, "too short"),
        ("x" * 20 + " " + "y" * 20, "wrong format"),
        ("x" * 40 + "\n", "wrong format"),
        ("é" * 40, "wrong format"),
        ("x" * 4097, "wrong format"),
    ],
)
def test_a_secret_that_is_not_fit_is_named_and_not_shown(environment, name, secret, said):
    environment.setenv(name, secret)
    with pytest.raises(errors.NotConfigured, match=said) as caught:
        secrets.check(SETTINGS, "my-kek")
    shown = f"{caught.value.message}{caught.value.detail}{caught.value.hint}"
    assert name in shown
    assert not secret or secret not in shown
    with pytest.raises(errors.KmsDenied):
        secrets.SecretsProvider(SETTINGS).describe("my-kek")


def test_one_secret_twice_is_no_two_secrets(environment):
    environment.setenv("PG_ENVELOPE_SECRET_MY_KEK", BASE)
    with pytest.raises(errors.NotConfigured, match="the same"):
        secrets.check(SETTINGS, "my-kek")


def test_a_32_character_secret_is_enough(environment):
    environment.setenv("BASE", "x" * 32)
    secrets.check(SETTINGS, "my-kek")


def test_the_next_secret_is_the_next_version(environment):
    before = secrets.SecretsProvider(SETTINGS)
    old = before.generate("my-kek", "here")
    with pytest.raises(errors.Unsupported) as caught:
        before.rotate("my-kek")
    assert "PG_ENVELOPE_SECRET_MY_KEK_V2" in caught.value.hint
    environment.setenv("PG_ENVELOPE_SECRET_MY_KEK_V2", NEXT)
    after = secrets.SecretsProvider(SETTINGS)
    assert after.describe("my-kek").version == 2
    (new,) = after.rewrap("my-kek", [Item("here", old)])
    assert new.startswith("secrets:v2:")
    assert after.unwrap("my-kek", [Item("here", new)]) == after.unwrap("my-kek", [Item("here", old)])
    assert secrets.names(SETTINGS, "my-kek")[1:] == ["PG_ENVELOPE_SECRET_MY_KEK", "PG_ENVELOPE_SECRET_MY_KEK_V2"]


def test_keks_of_one_base_secret_are_apart(environment):
    environment.setenv("PG_ENVELOPE_SECRET_OTHER", PURPOSE)
    provider = secrets.SecretsProvider(SETTINGS)
    wrapped = provider.generate("my-kek", "here")
    assert isinstance(provider.unwrap("other", [Item("here", wrapped)])[0], errors.UnwrapFailed)
