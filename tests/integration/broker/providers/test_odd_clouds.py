"""Whatever JSON the service of a cloud answers with, a call ends as one of the errors that say what the KMS did."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.broker.kms.calls import Call
from pg_envelope.broker.kms.providers.aws import Aws
from pg_envelope.broker.kms.providers.base import Description, Item, Plain
from pg_envelope.broker.settings.kms import AwsSettings
from tests.integration.broker.conftest import PATIENCE_MS
from tests.integration.broker.providers.fake_http import FakeServer, Refusal

CONTEXT = "pg_envelope/1 default 00000000-0000-0000-0000-000000000001 1"
TOLD = {"kms_unavailable", "kms_denied", "kms_invalid", "kms_busy", "kek_unknown", "unwrap_failed", "key_destroyed"}
LOGINS = ("/token",)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("AAAA"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
STATUS = st.sampled_from([200, 200, 200, 400, 403, 404, 409, 500])


class OddAws(FakeServer):
    """What a call needs, in the place of AWS KMS."""

    def answer(self, method, path, content, headers):
        operation = headers["X-Amz-Target"].partition(".")[2]
        blob = base64.b64encode(b"blob").decode()
        answers = {
            "DescribeKey": {
                "KeyMetadata": {"KeyId": "k", "KeyState": "Enabled", "KeySpec": "SYMMETRIC_DEFAULT"}
                | {"KeyUsage": "ENCRYPT_DECRYPT", "Enabled": True, "Origin": "AWS_KMS"}
            },
            "ListKeyRotations": {"Rotations": [], "Truncated": False},
            "Decrypt": {"KeyId": "k", "Plaintext": base64.b64encode(bytes(32)).decode()},
        }
        return answers.get(operation, {"KeyId": "k", "SourceKeyId": "k", "CiphertextBlob": blob})


@pytest.fixture(scope="module")
def aws(patch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "x")
    fake = OddAws()
    endpoint = AwsSettings("eu-central-1", f"http://127.0.0.1:{fake.port}", timeout_ms=PATIENCE_MS)
    yield fake, Aws(endpoint), "k"
    fake.stop()


@pytest.fixture(scope="module", params=["aws", "azure", "google"])
def cloud(request):
    """The server, a provider, the KEK's name, and a wrap. One provider for all: an SDK takes long to be made."""
    if request.param == "aws":
        fake, provider, key = request.getfixturevalue("aws")
    else:
        world = request.getfixturevalue(f"{request.param}_world")
        fake, provider, key = world.fake, world.provider(), world.key
    yield fake, provider, key, provider.generate(key, CONTEXT)
    provider.close()


def mutated(answer, where, odd):
    """`answer` with the member that `where` leads to replaced; all of it for an empty path."""
    if not where or not isinstance(answer, dict | list) or not answer:
        return odd
    first, *rest = where
    names = sorted(answer) if isinstance(answer, dict) else list(range(len(answer)))
    chosen = names[first % len(names)]
    pairs = [(name, mutated(answer[name], rest, odd) if name == chosen else answer[name]) for name in names]
    return dict(pairs) if isinstance(answer, dict) else [value for _, value in pairs]


WORKS = {
    "describe": lambda provider, key, wrap: provider.describe(key),
    "generate": lambda provider, key, wrap: provider.generate(key, CONTEXT),
    "wrap": lambda provider, key, wrap: provider.wrap(key, [Plain(CONTEXT, bytes(32))]),
    "unwrap": lambda provider, key, wrap: provider.unwrap(key, [Item(CONTEXT, wrap)]),
    "rewrap": lambda provider, key, wrap: provider.rewrap(key, [Item(CONTEXT, wrap)]),
}


@pytest.mark.parametrize("work", WORKS)
@given(where=st.lists(st.integers(0, 5), max_size=3), odd=ODD, status=STATUS)
@settings(max_examples=40)
def test_any_json_is_the_kms_s_fault(cloud, work, where, odd, status):
    fake, provider, key, wrap = cloud
    usual = type(fake).answer

    def answer(method, path, content, headers):
        found = usual(fake, method, path, content, headers)
        if path in LOGINS:
            return found
        if status != 200:
            raise Refusal(status, mutated(found, where, odd))
        return mutated(found, where, odd)

    fake.answer = answer
    try:
        found = Call().run(WORKS[work], provider, key, wrap)
    except errors.EnvelopeError as error:
        found = [error]
    finally:
        del fake.answer
    for one in found if isinstance(found, list) else [found]:
        if isinstance(one, errors.EnvelopeError):
            assert one.code in TOLD
        else:
            assert type(one) in (str, bytes, Description)
