"""Azure and Google, against our own fakes of their REST calls: states, fitness, and what the wrap holds."""

from __future__ import annotations

import base64

import pytest

from pg_envelope import errors
from pg_envelope.broker.kms.providers.base import Item, Plain
from tests.integration.broker.providers import fake_azure

CONTEXT = "pg_envelope/1 default 00000000-0000-0000-0000-000000000007 1"


def refused(provider, key, wrapped):
    try:
        return provider.unwrap(key, [Item(CONTEXT, wrapped)])[0]
    except errors.EnvelopeError as error:
        return error


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, errors.KmsDenied),
        (403, errors.KmsDenied),
        (409, errors.KmsInvalid),
        (429, errors.KmsUnavailable),
        (500, errors.KmsUnavailable),
        (503, errors.KmsUnavailable),
    ],
)
@pytest.mark.parametrize("cloud", ["azure", "google"])
def test_answers(request, cloud, status, expected):
    world = request.getfixturevalue(f"{cloud}_world")
    provider = world.provider()
    wrapped = provider.generate(world.key, CONTEXT)
    world.fake.refusing = status
    try:
        error = refused(provider, world.key, wrapped)
    finally:
        world.fake.refusing = None
    assert isinstance(error, expected)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("DISABLED", errors.KmsDenied),
        ("DESTROY_SCHEDULED", errors.KmsDenied),
        ("DESTROYED", errors.KeyDestroyed),
    ],
)
def test_google_a_version_that_is_not_enabled(google_world, state, expected):
    key, provider = google_world.fake.make(f"state_{state.lower()}"), google_world.provider()
    wrapped = provider.generate(key, CONTEXT)
    google_world.fake.keys[key][0].state = state
    assert isinstance(refused(provider, key, wrapped), expected)
    with pytest.raises(errors.KmsDenied) as caught:
        provider.describe(key)
    assert state in caught.value.detail


def test_google_a_key_that_does_not_encrypt_is_refused(google_world):
    key = google_world.fake.make("signer", "ASYMMETRIC_SIGN")
    with pytest.raises(errors.KekUnknown, match="not fit"):
        google_world.provider().describe(key)


def test_google_waits_for_a_version_that_is_being_made(google_world):
    key, provider = google_world.fake.make("slow"), google_world.provider()
    google_world.fake.slow_generation = 3
    assert provider.rotate(key) == 2
    assert provider.generate(key, CONTEXT).startswith("google:v2:")


def test_google_a_refused_login_is_a_refusal(google_world):
    google_world.fake.login_refused = True
    try:
        with pytest.raises(errors.KmsDenied, match="cannot log in"):
            google_world.provider().describe(google_world.key)
    finally:
        google_world.fake.login_refused = False


def test_azure_a_disabled_old_version_is_a_refusal_not_a_bad_wrap(azure_world):
    key, provider = azure_world.fake.make("old"), azure_world.provider()
    wrapped = provider.generate(key, CONTEXT)
    provider.rotate(key)
    azure_world.fake.keys[key][0].enabled = False
    assert isinstance(refused(provider, key, wrapped), errors.KmsDenied)


def test_azure_tells_whether_a_deleted_key_can_be_purged(azure_world, monkeypatch):
    key = azure_world.fake.make("recoverable")
    found = azure_world.provider().describe(key)
    assert (found.deletable, found.warnings) == (False, ())
    monkeypatch.setattr(azure_world.fake, "recovery", "Recoverable+Purgeable")
    found = azure_world.provider().describe(key)
    assert found.deletable is True
    assert "purge protection" in found.warnings[0]


def test_azure_a_disabled_key_is_refused(azure_world):
    key = azure_world.fake.make("off")
    azure_world.fake.keys[key][0].enabled = False
    with pytest.raises(errors.KmsDenied) as caught:
        azure_world.provider().describe(key)
    assert "disabled" in caught.value.detail


@pytest.mark.parametrize("options", [{"bits": 1024}, {"operations": ("encrypt", "decrypt")}])
def test_azure_a_key_that_is_not_fit_is_refused(azure_world, options):
    key = azure_world.fake.make(f"unfit-{len(options.get('operations', ''))}", **options)
    with pytest.raises(errors.KekUnknown, match="not fit"):
        azure_world.provider().describe(key)


def test_azure_the_hash_of_the_context_is_inside_the_wrap(azure_world):
    """Key Vault itself would open it anywhere: the broker is who refuses."""
    provider = azure_world.provider()
    (wrapped,) = provider.wrap(azure_world.key, [Plain(CONTEXT, bytes(32))])
    content = base64.b64decode(wrapped.rpartition(":")[2])
    version = next(one for one in azure_world.fake.keys[azure_world.key] if one.id == content[:16].hex())
    inside = version.key.decrypt(content[16:], fake_azure.OAEP)
    assert inside[:32] == bytes(32)
    assert len(inside) == 64


def test_azure_a_version_that_a_wrap_invents_is_not_asked_for(azure_world):
    provider = azure_world.provider()
    wrapped = provider.generate(azure_world.key, CONTEXT)
    invented = base64.b64encode(bytes(16) + base64.b64decode(wrapped.rpartition(":")[2])[16:]).decode()
    assert isinstance(refused(provider, azure_world.key, f"azure:v1:{invented}"), errors.UnwrapFailed)
    assert not [path for _, path in azure_world.fake.requests if "0" * 32 in path]
