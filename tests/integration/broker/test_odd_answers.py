"""Whatever JSON a KMS answers with, the request fails as the KMS's fault, or item by item; nothing is "internal"."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.broker.kms.calls import Call
from pg_envelope.broker.kms.providers.base import Item, Plain
from pg_envelope.broker.kms.providers.make import make_provider
from pg_envelope.broker.settings.kms import TokenFile, VaultSettings
from tests.integration.broker.conftest import PATIENCE_MS, private
from tests.integration.broker.scripted import Scripted, says, says_text

CONTEXT = "pg_envelope/1 default 00000000-0000-0000-0000-000000000001 1"
WRAPPED = "vault:v1:AAAA"
TOLD = (errors.KmsUnavailable, errors.UnwrapFailed, errors.KekUnknown)
WORKS = {
    "keys/k": lambda vault: vault.describe("k"),
    "wrapped/k": lambda vault: vault.generate("k", CONTEXT),
    "encrypt/k": lambda vault: vault.wrap("k", [Plain(CONTEXT, bytes(32))]),
    "decrypt/k": lambda vault: vault.unwrap("k", [Item(CONTEXT, WRAPPED)]),
    "rewrap/k": lambda vault: vault.rewrap("k", [Item(CONTEXT, WRAPPED)]),
    "d/1": lambda vault: vault.store.read("d/1"),
    "lookup-self": lambda vault: vault.describe("k"),
}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("vault:v1:é"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
# The members that are looked at, each with any value, at the place where it belongs.
MEMBERS = [
    "plaintext",
    "ciphertext",
    "batch_results",
    "data",
    "metadata",
    "version",
    "wrapped",
    "kek",
    "latest_version",
    "min_decryption_version",
    "type",
    "derived",
    "ttl",
    "expire_time",
    "renewable",
    "error",
    "errors",
    "deletion_allowed",
]
SHAPED = st.recursive(
    st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, ODD)),
    lambda inner: st.fixed_dictionaries(
        {}, optional={"data": inner, "metadata": inner, "batch_results": st.lists(inner | ODD, max_size=2)}
    ),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    server = Scripted(tmp_path_factory.mktemp("scripted"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def outcome(scripted, tmp_path_factory):
    """What one request of a broker that has just started gives, or raises."""
    token = TokenFile(private(tmp_path_factory.mktemp("login") / "token", "t"))
    settings = VaultSettings(scripted.settings()["address"], token, scripted.ca_file, timeout_ms=PATIENCE_MS)

    def ask(path):
        vault = make_provider(settings, lambda error: None)
        try:
            return Call().run(WORKS[path], vault)
        except errors.EnvelopeError as error:
            return error
        finally:
            vault.close()

    return ask


def items(found):
    """What a call gave that says how it went: errors, alone or in a list."""
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, Exception)]


@pytest.mark.parametrize("path", WORKS)
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "404 Not Found"])
@given(answer=ODD | SHAPED | SHAPED.map(lambda found: {"data": found}) | ODD.map(lambda one: batch(one)))
@settings(max_examples=40)
def test_any_json_is_the_kms_s_fault(outcome, scripted, path, status, answer):
    scripted.script = {path: says(answer, status)}
    for error in items(outcome(path)):
        assert isinstance(error, (*TOLD, errors.KmsInvalid, errors.KmsDenied, errors.KeyNotFound, errors.KeyDestroyed))
        assert "not understood" not in (error.detail or "") or status != "200 OK"


def batch(one):
    return {"data": {"batch_results": [one]}}


@pytest.mark.parametrize("one", ["x", None, 7, [], {}, {"plaintext": 7}, {"plaintext": "é"}, {"ciphertext": {}}])
@pytest.mark.parametrize("path", ["encrypt/k", "decrypt/k", "rewrap/k"])
def test_a_batch_of_something_else(outcome, scripted, path, one):
    scripted.script = {path: says(batch(one))}
    (error,) = items(outcome(path))
    assert type(error) in TOLD


@pytest.mark.parametrize("path", WORKS)
def test_deep_nesting(outcome, scripted, path):
    scripted.script = {path: says_text("[" * 200_000 + "]" * 200_000)}
    (error,) = items(outcome(path))
    assert type(error) is errors.KmsUnavailable


@pytest.mark.parametrize("text", ['{"data": {"latest_version": 1e400}}', '{"data": {"latest_version": ' + "9" * 5000])
def test_numbers_that_are_none(outcome, scripted, text):
    scripted.script = {"keys/k": says_text(text)}
    assert type(outcome("keys/k")) in TOLD


@pytest.mark.parametrize(("status", "code"), [("400 Bad Request", "kms_invalid"), ("404 Not Found", "kms_invalid")])
def test_a_request_that_is_refused_as_invalid_is_no_refused_login(outcome, scripted, status, code):
    scripted.script = {"decrypt/k": says({"errors": ["something else"]}, status)}
    error = outcome("decrypt/k")
    assert error.code == code
    assert not re.search("login|token|policy", f"{error.message} {error.hint}", re.IGNORECASE)
    assert [path for path in scripted.asked if path.endswith("decrypt/k")]
