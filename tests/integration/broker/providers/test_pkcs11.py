"""PKCS#11: which keys are fit to be KEKs, and a PIN that must not be tried twice."""

from __future__ import annotations

import shutil

import pkcs11
import pytest

from pg_envelope import errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers import pkcs11 as provider_module
from pg_envelope.broker.kms.providers.base import Item
from pg_envelope.broker.settings import kms as kms_settings
from tests.integration.broker.providers import worlds

CONTEXT = "pg_envelope/1 default 00000000-0000-0000-0000-000000000007 1"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("exportable", {"EXTRACTABLE": True}),
        ("readable", {"SENSITIVE": False}),
        ("short", {"bits": 128}),
        ("seals-only", {"DECRYPT": False}),
    ],
)
def test_a_key_that_could_leave_or_is_too_weak_is_refused(pkcs11_world, name, options):
    pkcs11_world.make(name, **options)
    with pytest.raises(errors.KekUnknown, match="not fit"):
        pkcs11_world.provider().describe(name)


def test_an_older_version_that_could_leave_is_refused_too(pkcs11_world):
    pkcs11_world.make("mixed", 1, EXTRACTABLE=True)
    pkcs11_world.make("mixed", 2)
    with pytest.raises(errors.KekUnknown, match="not fit"):
        pkcs11_world.provider().describe("mixed")


def test_a_key_that_may_be_destroyed_is_told_of(pkcs11_world):
    pkcs11_world.make("kept", DESTROYABLE=False)
    assert pkcs11_world.provider().describe("kept").deletable is False
    pkcs11_world.make("kept", 2)
    assert pkcs11_world.provider().describe("kept").deletable is True


def test_what_rotate_makes_cannot_leave_the_token(pkcs11_world):
    pkcs11_world.make("rotated")
    provider = pkcs11_world.provider()
    assert provider.rotate("rotated") == 2
    session = pkcs11_world.session()
    (made,) = session.get_objects({pkcs11.Attribute.LABEL: "rotated", pkcs11.Attribute.ID: (2).to_bytes(4, "big")})
    assert made[pkcs11.Attribute.SENSITIVE]
    assert not made[pkcs11.Attribute.EXTRACTABLE]
    with pytest.raises((pkcs11.AttributeSensitive, pkcs11.PKCS11Error)):
        made[pkcs11.Attribute.VALUE]
    session.close()


def test_two_keys_of_one_version_both_open_what_they_wrapped(pkcs11_world):
    """Two rotations at one moment make that."""
    pkcs11_world.make("twin")
    first = pkcs11_world.provider().generate("twin", CONTEXT)
    pkcs11_world.make("twin")
    provider = pkcs11_world.provider()
    wraps = [first, *(provider.generate("twin", CONTEXT) for _ in range(3))]
    found = provider.unwrap("twin", [Item(CONTEXT, wrapped) for wrapped in wraps])
    assert [len(dek) for dek in found] == [32] * 4


def test_a_wrong_pin_is_tried_once_until_its_file_changes(pkcs11_world, monkeypatch):
    # A login counts for the whole process: earlier tests' must be over.
    pkcs11.lib(str(worlds.SOFTHSM)).reinitialize()
    tried = []
    log_in = worlds.pkcs11._pkcs11.Token.open
    provider = pkcs11_world.provider()

    class Counting:
        """The token, with its logins counted."""

        def __init__(self, token):
            self.token, self.flags = token, token.flags

        def open(self, **options):
            tried.append(1)
            return log_in(self.token, **options)

    through = provider._token._log_in
    monkeypatch.setattr(provider._token, "_log_in", lambda token: through(Counting(token)))
    pkcs11_world.deny()
    for _ in range(5):
        with pytest.raises(errors.KmsDenied) as caught:
            provider.describe(pkcs11_world.key)
    assert "PIN" in caught.value.detail
    assert len(tried) == 1
    pkcs11_world.allow()
    assert provider.describe(pkcs11_world.key).version >= 1
    assert len(tried) == 2


@pytest.mark.parametrize(("flag", "said"), [("USER_PIN_FINAL_TRY", "one try is left"), ("USER_PIN_LOCKED", "locked")])
def test_the_last_try_is_left_to_a_person(pkcs11_world, monkeypatch, flag, said):
    """SoftHSM counts no tries: the flag is put on its token as an HSM would set it. No login must follow."""
    tried = []

    class Low:
        def __init__(self, token):
            self.flags = token.flags | worlds.pkcs11.TokenFlag[flag]

        def open(self, **options):
            tried.append(1)

    provider = pkcs11_world.provider()
    through = provider._token._log_in
    monkeypatch.setattr(provider._token, "_log_in", lambda token: through(Low(token)))
    with pytest.raises(errors.KmsDenied) as caught:
        provider.describe(pkcs11_world.key)
    assert said in caught.value.detail
    assert not tried


def test_a_token_that_is_not_there(pkcs11_world):
    settings = kms_settings.Pkcs11Settings(worlds.SOFTHSM, "no such token", pkcs11_world.pin_file)
    with pytest.raises(errors.KmsUnavailable) as caught:
        worlds.make_provider(settings, lambda error: None).describe("k")
    assert "label" in caught.value.detail


def test_a_module_that_others_could_replace_is_not_loaded(pkcs11_world, tmp_path):
    module = tmp_path / "module.so"
    shutil.copy(worlds.SOFTHSM, module)
    module.chmod(0o666)
    with pytest.raises(errors.NotConfigured, match="could be replaced"):
        worlds.make_provider(kms_settings.Pkcs11Settings(module, "t", tmp_path / "pin"), lambda error: None)


def test_a_token_lost_between_two_deks_is_not_taken_for_a_bad_wrap():
    """SoftHSM2 cannot be made to lose a token in the middle of a request; an HSM in a network can."""

    class Lost:
        def encrypt(self, *_, **__):
            raise pkcs11.DeviceRemoved

        decrypt = encrypt

    class Session:
        def generate_random(self, bits):
            return bytes(bits // 8)

    item = Item(CONTEXT, base.compose("pkcs11", 1, bytes(provider_module.SEALED_BYTES)))
    with pytest.raises(pkcs11.DeviceRemoved):
        provider_module._opened(Session(), {1: [Lost()]}, item)
