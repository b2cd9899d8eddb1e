"""KMIP: which keys are fit to be KEKs and in which state, who may log in, and servers that do not do their part."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from pg_envelope import errors
from pg_envelope.broker.kms.providers import kmip, kmip_wire
from pg_envelope.broker.kms.providers.base import Item, Plain, kek_version
from pg_envelope.broker.kms.providers.kmip import Kmip
from pg_envelope.broker.kms.providers.kmip_wire import KmipFailed
from tests.integration.broker.providers import kmip_server

CONTEXT = "pg_envelope/1 default 00000000-0000-0000-0000-000000000007 1"


def unwrapped(provider, key, *wraps):
    return provider.unwrap(key, [Item(CONTEXT, wrapped) for wrapped in wraps])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("short", {"bits": 128}),
        ("foreign", {"kind": "CAMELLIA"}),
        ("seals-only", {"uses": ("ENCRYPT",)}),
        ("exportable", {"uses": ("ENCRYPT", "DECRYPT", "EXPORT")}),
    ],
)
def test_a_key_that_is_too_weak_or_may_do_more_is_refused(kmip_world, name, options):
    kmip_world.make(f"{name}-v1", **options)
    for work in (lambda one: one.describe(name), lambda one: one.generate(name, CONTEXT)):
        with pytest.raises(errors.KekUnknown, match="not fit"):
            work(kmip_world.provider())


def test_an_older_version_that_is_not_fit_is_refused_too(kmip_world):
    kmip_world.make("mixed-v1", bits=128)
    kmip_world.make("mixed-v2")
    with pytest.raises(errors.KekUnknown, match="not fit"):
        kmip_world.provider().describe("mixed")


def test_a_version_that_was_never_activated_is_passed_over(kmip_world):
    """A rotation that broke off leaves one."""
    kmip_world.make("begun-v1", active=False)
    provider = kmip_world.provider()
    with pytest.raises(errors.KmsDenied) as caught:
        provider.describe("begun")
    assert "no version of the key is active" in caught.value.detail
    kmip_world.make("begun-v2")
    kmip_world.make("begun-v3", active=False)
    assert provider.describe("begun") == kmip.base.Description(2)
    assert kek_version(provider.generate("begun", CONTEXT)) == 2
    assert provider.rotate("begun") == 4
    assert provider.describe("begun").version == 4


def test_an_older_version_never_takes_the_newest_one_s_place(kmip_world):
    kmip_world.make("revoked-v1")
    newest = kmip_world.make("revoked-v2")
    provider = kmip_world.provider()
    wrapped = provider.generate("revoked", CONTEXT)
    kmip_world.revoke(newest)
    for work in (lambda: provider.describe("revoked"), lambda: provider.generate("revoked", CONTEXT)):
        with pytest.raises(errors.KmsDenied) as caught:
            work()
        assert "DEACTIVATED" in caught.value.detail
    with pytest.raises(errors.KmsDenied):
        unwrapped(provider, "revoked", wrapped)


def test_an_older_version_that_was_deactivated_is_warned_of(kmip_world):
    oldest = kmip_world.make("aged-v1")
    provider = kmip_world.provider()
    wrapped = provider.generate("aged", CONTEXT)
    assert provider.rotate("aged") == 2
    kmip_world.revoke(oldest)
    found = provider.describe("aged")
    assert (found.version, len(found.warnings)) == (2, 1)
    assert "version 1" in found.warnings[0]
    with pytest.raises(errors.KmsDenied):
        unwrapped(provider, "aged", wrapped)


def test_removed_versions_do_not_hide_the_newest(kmip_world):
    for version in (1, 11, 14):
        kmip_world.make(f"sparse-v{version}")
    assert kmip_world.provider().describe("sparse").version == 14
    assert kmip_world.provider().rotate("sparse") == 15


def test_a_removed_version_s_wrap_does_not_open(kmip_world):
    uid = kmip_world.make("removed-v1")
    provider = kmip_world.provider()
    old = provider.generate("removed", CONTEXT)
    assert provider.rotate("removed") == 2
    new = provider.generate("removed", CONTEXT)
    kmip_world.revoke(uid)
    with kmip_world.admin() as client:
        client.destroy(uid)
    for wraps in ((old,), (old, new)):
        assert isinstance(unwrapped(provider, "removed", *wraps)[0], errors.UnwrapFailed)
    assert len(unwrapped(provider, "removed", old, new)[1]) == 32


def test_two_keys_of_one_name_both_open_what_they_wrapped(kmip_world):
    """Two rotations at one moment make that, where the server lets a name be used twice."""
    uids = [kmip_world.make("twin-v1") for _ in range(2)]
    dek, nonce = bytes(range(32)), bytes(12)
    with kmip.connected(kmip_world.settings) as link:
        answers = link.must(*(kmip_wire.encrypt(uid, nonce, dek, CONTEXT) for uid in uids))
    wraps = [kmip.base.compose("kmip", 1, nonce + kmip_wire.sealed(answer)) for answer in answers]
    assert wraps[0] != wraps[1]
    assert unwrapped(kmip_world.provider(), "twin", *wraps) == [dek, dek]


def test_a_wrap_of_another_length_is_not_sent(kmip_world, monkeypatch):
    """The server would take four bytes for a whole tag."""
    wrapped = kmip_world.provider().generate(kmip_world.key, CONTEXT)
    content = kmip.base.parse("kmip", wrapped)[1]
    cut = [kmip.base.compose("kmip", 1, content[:left]) for left in (16, 28, 59)]
    monkeypatch.setattr(kmip_wire, "encoded", lambda asks: pytest.fail("it was sent"))
    found = unwrapped(kmip_world.provider(), kmip_world.key, *cut)
    assert [type(one) for one in found] == [errors.UnwrapFailed] * 3


def test_a_full_batch_is_one_request_for_the_keys_and_one_for_the_deks(kmip_world, monkeypatch):
    provider, asked = kmip_world.provider(), []
    deks = [bytes([number]) * 32 for number in range(provider.batch)]
    wraps = provider.wrap(kmip_world.key, [Plain(CONTEXT, dek) for dek in deks])
    encoded = kmip_wire.encoded
    monkeypatch.setattr(kmip_wire, "encoded", lambda asks: asked.append(len(asks)) or encoded(asks))
    assert unwrapped(provider, kmip_world.key, *wraps) == deks
    assert asked == [1, provider.batch]


def test_another_identity_does_not_see_the_kek(kmip_world):
    wrapped = kmip_world.provider().generate(kmip_world.key, CONTEXT)
    kmip_world.show("colleague")
    try:
        for work in (lambda one: one.describe(kmip_world.key), lambda one: unwrapped(one, kmip_world.key, wrapped)):
            with pytest.raises(errors.KekUnknown):
                work(kmip_world.provider())
    finally:
        kmip_world.allow()


def denial(world):
    with pytest.raises(errors.KmsDenied) as caught:
        world.provider().describe(world.key)
    return caught.value


@pytest.mark.parametrize("authority", ["ca", "another"])
def test_a_certificate_that_the_server_does_not_know_is_a_refusal(kmip_world, tmp_path, authority):
    kmip_server.Authority(tmp_path, authority).issue("stranger", client=True)
    for suffix in ("pem", "key"):
        (tmp_path / f"stranger.{suffix}").rename(kmip_world.directory / f"stranger.{suffix}")
    kmip_world.show("stranger")
    try:
        assert "refused the broker's certificate" in denial(kmip_world).detail
    finally:
        kmip_world.allow()


def test_the_key_file_must_be_private_and_the_certificate_s(kmip_world):
    certificate, key = kmip_world.shown
    try:
        key.chmod(0o644)
        assert "open to others" in denial(kmip_world).detail
        kmip_world.allow()
        key.write_bytes((kmip_world.directory / "server.key").read_bytes())
        assert "not a pair" in denial(kmip_world).detail
        kmip_world.allow()
        locked = load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
        assert "without a password" in denial(kmip_world).detail
        kmip_world.allow()
        certificate.unlink()
        assert "not a pair" in denial(kmip_world).detail
    finally:
        kmip_world.allow()
    assert kmip_world.provider().describe(kmip_world.key).version >= 1


@pytest.mark.parametrize("wrong", [{"host": "localhost"}, {"ca_file": ""}])
def test_a_server_that_cannot_prove_who_it_is_hears_nothing(kmip_world, wrong):
    """Its certificate is for 127.0.0.1, and its CA is no public one."""
    with pytest.raises(errors.KmsUnavailable) as caught:
        Kmip(replace(kmip_world.settings, **wrong)).describe(kmip_world.key)
    assert "ca_file" in caught.value.detail


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "longer"),
        (bytes.fromhex("42007b01") + bytes(3) + b"\x08" + bytes(8), "KMIP"),
        (bytes.fromhex("42007b01"), "connection failed"),
        (b"", "connection failed"),
    ],
)
def test_what_is_no_answer(kmip_world, answer, said):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=kmip_server.answering, args=(kmip_world.directory, answer, listener))
        server.start()
        settings = replace(kmip_world.settings, port=listener.getsockname()[1])
        with pytest.raises(errors.KmsUnavailable) as caught:
            Kmip(settings).describe(kmip_world.key)
        server.join()
    assert said in caught.value.detail


def test_a_server_that_passes_over_the_context_is_refused(kmip_world, monkeypatch):
    """As one that knows AES-GCM, and not KMIP 1.4: what it is sent arrives without the context."""
    for name in ("encrypt", "decrypt"):
        real = getattr(kmip_wire, name)
        monkeypatch.setattr(kmip_wire, name, lambda *arguments, real=real: real(*arguments[:3], ""))
    with pytest.raises(errors.KekUnknown, match="does not bind"):
        kmip_world.provider().describe(kmip_world.key)


class Answering:
    """A link to a server that gives one answer to all."""

    def __init__(self, reason):
        self.answer = KmipFailed(reason)

    def ask(self, asks):
        return [self.answer for _ in asks]

    must = kmip.KmipLink.must


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("GENERAL_FAILURE", errors.KmsUnavailable),
        ("SERVER_LIMIT_EXCEEDED", errors.KmsBusy),
        ("PERMISSION_DENIED", errors.KmsDenied),
        ("WRONG_KEY_LIFECYCLE_STATE", errors.KmsDenied),
        ("ITEM_NOT_FOUND", errors.KekUnknown),
        ("OPERATION_NOT_SUPPORTED", errors.KmsInvalid),
        ("CRYPTOGRAPHIC_FAILURE", errors.KmsInvalid),
    ],
)
def test_a_server_that_fails_is_not_taken_for_a_bad_wrap(reason, expected):
    with pytest.raises(errors.EnvelopeError) as caught:
        kmip._judge(Answering(reason), [("1", KmipFailed(reason))])
    assert type(caught.value) is expected


def test_an_answer_to_something_else_is_none():
    asked = [kmip_wire.locate("a-v1"), kmip_wire.locate("a-v2")]
    item = kmip_wire.messages.ResponseBatchItem(
        kmip_wire.contents.Operation(kmip_wire.Operation.LOCATE),
        kmip_wire.contents.UniqueBatchItemID((1).to_bytes(4, "big")),
        kmip_wire.contents.ResultStatus(kmip_wire.enums.ResultStatus.SUCCESS),
        response_payload=kmip_wire.payloads.LocateResponsePayload(unique_identifiers=["1"]),
    )
    header = kmip_wire.messages.ResponseHeader(
        kmip_wire.contents.ProtocolVersion(1, 4),
        kmip_wire.contents.TimeStamp(0),
        batch_count=kmip_wire.contents.BatchCount(1),
    )
    stream = kmip_wire.BytearrayStream()
    kmip_wire.messages.ResponseMessage(header, [item]).write(stream, kmip_wire.VERSION)
    with pytest.raises(ValueError, match="other answers"):
        kmip_wire.decoded(bytes(stream.buffer), asked)
