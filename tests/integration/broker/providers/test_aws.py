"""AWS KMS: what moto does not do is answered by botocore's Stubber; the rest is real HTTP."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from pg_envelope import errors
from pg_envelope.broker.kms.providers import aws
from pg_envelope.broker.kms.providers.base import Item
from pg_envelope.broker.settings import kms as kms_settings

KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
CONTEXT = "pg_envelope/1 prod 6ba7b810-9dad-11d1-80b4-00c04fd430c8 42"
WRAPPED = "aws:v1:AAAA"
MEMBERS = {
    "pg_envelope": "1",
    "environment": "prod",
    "database": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "dek": "42",
}
ENABLED = {"KeyId": KEY, "KeyState": "Enabled", "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"}


@pytest.fixture
def stub(monkeypatch):
    """A Stubber for the provider's client, and the provider."""
    client = boto3.client("kms", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
    monkeypatch.setattr(aws, "_new_client", lambda settings: client)
    with Stubber(client) as stubber:
        yield stubber, aws.Aws(kms_settings.AwsSettings("eu-central-1"))
        stubber.assert_no_pending_responses()
    client.close()


def refusal(provider):
    """What an unwrap of one DEK meets."""
    try:
        found = provider.unwrap(KEY, [Item(CONTEXT, WRAPPED)])[0]
    except errors.EnvelopeError as error:
        return error
    assert isinstance(found, errors.EnvelopeError)
    return found


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("IncorrectKeyException", 400, errors.UnwrapFailed),
        ("InvalidCiphertextException", 400, errors.UnwrapFailed),
        ("AccessDeniedException", 400, errors.KmsDenied),
        ("ExpiredTokenException", 400, errors.KmsDenied),
        ("UnrecognizedClientException", 400, errors.KmsDenied),
        ("DisabledException", 409, errors.KmsDenied),
        ("NotFoundException", 400, errors.KekUnknown),
        ("ThrottlingException", 400, errors.KmsBusy),
        ("LimitExceededException", 400, errors.KmsBusy),
        ("DependencyTimeoutException", 503, errors.KmsUnavailable),
        ("KMSInternalException", 500, errors.KmsUnavailable),
        ("KeyUnavailableException", 500, errors.KmsUnavailable),
        ("SomethingNew", 502, errors.KmsUnavailable),
        ("SomethingNew", 400, errors.KmsInvalid),
    ],
)
def test_answers(stub, code, status, expected):
    stubber, provider = stub
    stubber.add_client_error("decrypt", code, "secret text", status)
    error = refusal(provider)
    assert type(error) is expected
    assert "secret text" not in f"{error.message}{error.detail}{error.hint}"


@pytest.mark.parametrize(
    ("state", "expected", "said"),
    [
        ("Disabled", errors.KmsDenied, "Enable the key"),
        ("PendingDeletion", errors.KmsDenied, "Cancel its deletion"),
        ("PendingReplicaDeletion", errors.KmsDenied, "Cancel its deletion"),
        ("PendingImport", errors.KmsDenied, ""),
        ("Unavailable", errors.KmsUnavailable, ""),
        ("Creating", errors.KmsUnavailable, ""),
    ],
)
def test_a_state_that_does_not_allow_it_is_asked_for(stub, state, expected, said):
    stubber, provider = stub
    stubber.add_client_error("decrypt", "KMSInvalidStateException", "", 409)
    stubber.add_response("describe_key", {"KeyMetadata": {**ENABLED, "KeyState": state}}, {"KeyId": KEY})
    error = refusal(provider)
    assert type(error) is expected
    assert state in error.detail
    assert said in (error.hint or "")


@pytest.mark.parametrize("wrong", [{"KeySpec": "RSA_2048"}, {"KeySpec": "HMAC_256"}, {"KeyUsage": "SIGN_VERIFY"}])
def test_a_key_that_binds_nothing_is_refused(stub, wrong):
    stubber, provider = stub
    stubber.add_response("describe_key", {"KeyMetadata": {**ENABLED, **wrong}})
    with pytest.raises(errors.KekUnknown, match="not fit"):
        provider.describe(KEY)


def test_rotations_of_every_page_count(stub):
    stubber, provider = stub
    rotation = {"KeyId": KEY, "RotationType": "ON_DEMAND"}
    stubber.add_response("describe_key", {"KeyMetadata": ENABLED})
    stubber.add_response("list_key_rotations", {"Rotations": [rotation] * 2, "Truncated": True, "NextMarker": "m"})
    stubber.add_response("list_key_rotations", {"Rotations": [rotation], "Truncated": False})
    assert provider.describe(KEY).version == 4


def test_a_rotation_is_waited_for(stub):
    stubber, provider = stub
    rotation = {"KeyId": KEY, "RotationType": "ON_DEMAND"}
    stubber.add_response("describe_key", {"KeyMetadata": ENABLED})
    stubber.add_response("list_key_rotations", {"Rotations": []})
    stubber.add_response("rotate_key_on_demand", {"KeyId": KEY}, {"KeyId": KEY})
    for rotations in ([], [rotation]):
        stubber.add_response("describe_key", {"KeyMetadata": ENABLED})
        stubber.add_response("list_key_rotations", {"Rotations": rotations})
    assert provider.rotate(KEY) == 2


def test_a_rotation_under_way_is_no_refusal(stub):
    stubber, provider = stub
    stubber.add_response("describe_key", {"KeyMetadata": ENABLED})
    stubber.add_response("list_key_rotations", {"Rotations": []})
    stubber.add_client_error("rotate_key_on_demand", "ConflictException")
    with pytest.raises(errors.KmsUnavailable) as caught:
        provider.rotate(KEY)
    assert "under way" in caught.value.detail


def test_a_custom_key_store_cannot_rotate_and_is_version_1(stub):
    stubber, provider = stub
    stubber.add_response("describe_key", {"KeyMetadata": ENABLED})
    stubber.add_client_error("list_key_rotations", "UnsupportedOperationException")
    assert provider.describe(KEY).version == 1


def test_expiring_material_is_warned_of(stub):
    stubber, provider = stub
    expiring = {**ENABLED, "Origin": "EXTERNAL", "ExpirationModel": "KEY_MATERIAL_EXPIRES"}
    stubber.add_response("describe_key", {"KeyMetadata": expiring})
    stubber.add_response("list_key_rotations", {"Rotations": []})
    assert "expires" in provider.describe(KEY).warnings[0]


def test_the_context_reaches_kms_by_its_members_and_the_key_is_pinned(stub):
    stubber, provider = stub
    answer = {"Plaintext": bytes(32), "KeyId": KEY}
    asked = {"KeyId": KEY, "CiphertextBlob": b"\0\0\0", "EncryptionContext": MEMBERS}
    stubber.add_response("decrypt", answer, asked)
    assert provider.unwrap(KEY, [Item(CONTEXT, WRAPPED)]) == [bytes(32)]


def test_a_rewrap_that_came_from_another_key_is_refused(stub):
    stubber, provider = stub
    answer = {"CiphertextBlob": b"new", "SourceKeyId": f"arn:aws:kms:eu-central-1:1:key/other-{KEY}", "KeyId": KEY}
    stubber.add_response("re_encrypt", answer)
    (found,) = provider.rewrap(KEY, [Item(CONTEXT, WRAPPED)])
    assert isinstance(found, errors.UnwrapFailed)


def test_a_plaintext_that_is_no_dek_is_refused(stub):
    stubber, provider = stub
    stubber.add_response("decrypt", {"Plaintext": b"short", "KeyId": KEY})
    assert isinstance(refusal(provider), errors.UnwrapFailed)


def test_no_credentials_are_looked_for_again(aws_world, monkeypatch, tmp_path):
    nowhere = str(tmp_path / "none")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, nowhere)
    with monkeypatch.context() as without:
        without.delenv("AWS_ACCESS_KEY_ID")
        without.delenv("AWS_SECRET_ACCESS_KEY")
        provider = aws_world.provider()
        with pytest.raises(errors.KmsDenied) as caught:
            provider.describe(aws_world.key)
        assert "credentials" in caught.value.detail
    assert provider.describe(aws_world.key).version == 1


@pytest.mark.parametrize(
    ("change", "back", "said"),
    [("disable_key", "enable_key", "Disabled"), ("schedule_key_deletion", "cancel_key_deletion", "PendingDeletion")],
)
def test_a_key_that_was_switched_off_and_on_again(aws_world, change, back, said):
    key, provider = aws_world.make(), aws_world.provider()
    getattr(aws_world.kms, change)(KeyId=key)
    with pytest.raises(errors.KmsDenied) as caught:
        provider.describe(key)
    assert said in caught.value.detail
    getattr(aws_world.kms, back)(KeyId=key)
    aws_world.kms.enable_key(KeyId=key)
    assert provider.describe(key).version == 1


def test_a_profile_that_is_not_there(aws_world, monkeypatch):
    settings = kms_settings.AwsSettings("eu-central-1", aws_world.settings.endpoint, profile="tenant-9")
    with pytest.raises(errors.KmsDenied):
        aws.Aws(settings).describe(aws_world.key)
