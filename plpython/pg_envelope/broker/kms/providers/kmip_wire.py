"""Writes KMIP 1.4 requests and reads answers; only this module knows PyKMIP.

It uses only PyKMIP's messages, because its client neither checks the server's name nor sends associated data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

with warnings.catch_warnings():
    # Its first import declares tables that only its server needs, in a way that SQLAlchemy deprecates.
    warnings.simplefilter("ignore")
    from kmip.core import enums, objects
    from kmip.core.attributes import CryptographicParameters, Name, UniqueIdentifier
    from kmip.core.enums import AttributeType, CryptographicUsageMask, Operation
    from kmip.core.factories.attributes import AttributeFactory
    from kmip.core.messages import contents, messages, payloads
    from kmip.core.utils import BytearrayStream

VERSION = enums.KMIPVersion.KMIP_1_4
TAG_BYTES = 16
KEY_BITS = 256
USES = CryptographicUsageMask.ENCRYPT.value | CryptographicUsageMask.DECRYPT.value
DESCRIBING = (
    AttributeType.STATE,
    AttributeType.CRYPTOGRAPHIC_ALGORITHM,
    AttributeType.CRYPTOGRAPHIC_LENGTH,
    AttributeType.CRYPTOGRAPHIC_USAGE_MASK,
)


class Ask(NamedTuple):
    """One operation of a request."""

    operation: Any
    payload: Any


class KmipFailed(NamedTuple):
    """An operation that did not succeed, with KMIP's name of the reason."""

    reason: str


@dataclass(frozen=True)
class Key:
    """An object of the server: its id there, KMIP's name of its state, and whether it is AES-256 for wrapping only."""

    uid: str
    state: str
    fit: bool


def encoded(asks: Sequence[Ask]) -> bytes:
    """Returns one request. An operation that fails does not keep the others from being tried."""
    header = messages.RequestHeader(
        protocol_version=contents.ProtocolVersion(1, 4),
        batch_error_cont_option=contents.BatchErrorContinuationOption(enums.BatchErrorContinuationOption.CONTINUE),
        batch_order_option=contents.BatchOrderOption(True),
        batch_count=contents.BatchCount(len(asks)),
    )
    items = [
        messages.RequestBatchItem(
            contents.Operation(ask.operation), contents.UniqueBatchItemID(_id(place)), ask.payload
        )
        for place, ask in enumerate(asks)
    ]
    stream = BytearrayStream()
    messages.RequestMessage(header, items).write(stream, VERSION)
    return bytes(stream.buffer)


def decoded(content: bytes, asks: Sequence[Ask]) -> list[Any]:
    """Returns a payload or Failed for each operation. Raises whatever PyKMIP raises, or ValueError, when it is no
    answer.
    """
    message = messages.ResponseMessage()
    message.read(BytearrayStream(content), VERSION)
    items = message.batch_items
    # A request that was refused as a whole has one answer, without an id.
    if len(items) == 1 and items[0].unique_batch_item_id is None and isinstance(found := _result(items[0]), KmipFailed):
        return [found] * len(asks)
    if [_place(item) for item in items] != [_id(place) for place in range(len(asks))]:
        raise ValueError("other answers than were asked for")
    return [_result(item) for item in items]


def failures(answers: Iterable[Any]) -> list[KmipFailed]:
    return [answer for answer in answers if isinstance(answer, KmipFailed)]


def locate(name: str) -> Ask:
    wanted = [
        _attribute(AttributeType.OBJECT_TYPE, enums.ObjectType.SYMMETRIC_KEY),
        _attribute(AttributeType.NAME, _name(name)),
    ]
    return Ask(Operation.LOCATE, payloads.LocateRequestPayload(attributes=wanted))


def describe(uid: str) -> Ask:
    names = [one.value for one in DESCRIBING]
    return Ask(Operation.GET_ATTRIBUTES, payloads.GetAttributesRequestPayload(uid, names))


def create(name: str) -> Ask:
    """Makes a new key that is fit, in the state PRE_ACTIVE."""
    wanted = [
        _attribute(AttributeType.CRYPTOGRAPHIC_ALGORITHM, enums.CryptographicAlgorithm.AES),
        _attribute(AttributeType.CRYPTOGRAPHIC_LENGTH, KEY_BITS),
        _attribute(
            AttributeType.CRYPTOGRAPHIC_USAGE_MASK, [CryptographicUsageMask.ENCRYPT, CryptographicUsageMask.DECRYPT]
        ),
        _attribute(AttributeType.NAME, _name(name)),
    ]
    template = objects.TemplateAttribute(attributes=wanted)
    return Ask(Operation.CREATE, payloads.CreateRequestPayload(enums.ObjectType.SYMMETRIC_KEY, template))


def activate(uid: str) -> Ask:
    return Ask(Operation.ACTIVATE, payloads.ActivateRequestPayload(UniqueIdentifier(uid)))


def encrypt(uid: str, nonce: bytes, plain: bytes, context: str) -> Ask:
    return Ask(Operation.ENCRYPT, payloads.EncryptRequestPayload(uid, _gcm(), plain, nonce, context.encode()))


def decrypt(uid: str, nonce: bytes, sealed: bytes, context: str) -> Ask:
    """`sealed` is ciphertext | tag."""
    content, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    payload = payloads.DecryptRequestPayload(uid, _gcm(), content, nonce, context.encode(), tag)
    return Ask(Operation.DECRYPT, payload)


def uids(payload: Any) -> list[str]:
    """Returns the ids of a Locate's answer."""
    return [str(uid) for uid in payload.unique_identifiers or ()]


def uid(payload: Any) -> str:
    """Returns the id of a Create's answer."""
    return str(payload.unique_identifier)


def key(payload: Any) -> Key:
    """Returns the key of an answer to `describe`. A property that the server does not tell counts as unfit."""
    told = {one.attribute_name.value: one.attribute_value.value for one in payload.attributes or ()}
    state = told.get(AttributeType.STATE.value)
    fit = (
        told.get(AttributeType.CRYPTOGRAPHIC_ALGORITHM.value) is enums.CryptographicAlgorithm.AES
        and told.get(AttributeType.CRYPTOGRAPHIC_LENGTH.value) == KEY_BITS
        and told.get(AttributeType.CRYPTOGRAPHIC_USAGE_MASK.value) == USES
    )
    return Key(str(payload.unique_identifier), state.name if state else "unknown", fit)


def sealed(payload: Any) -> bytes:
    """Returns ciphertext | tag of an Encrypt's answer. Without a tag `decrypt` cannot open it."""
    return bytes(payload.data or b"") + bytes(payload.auth_tag or b"")


def opened(payload: Any) -> bytes:
    """Returns the content of a Decrypt's answer."""
    return bytes(payload.data or b"")


def _gcm() -> Any:
    return CryptographicParameters(
        block_cipher_mode=enums.BlockCipherMode.GCM,
        cryptographic_algorithm=enums.CryptographicAlgorithm.AES,
        tag_length=TAG_BYTES,
    )


def _attribute(kind: Any, value: Any) -> Any:
    return AttributeFactory().create_attribute(kind, value)


def _name(name: str) -> Any:
    return Name.create(name, enums.NameType.UNINTERPRETED_TEXT_STRING)


def _id(place: int) -> bytes:
    return place.to_bytes(4, "big")


def _place(item: Any) -> bytes | None:
    return item.unique_batch_item_id and bytes(item.unique_batch_item_id.value)


def _result(item: Any) -> Any:
    if item.result_status.value is enums.ResultStatus.SUCCESS:
        if item.response_payload is None:
            raise ValueError("an answer without its content")
        return item.response_payload
    return KmipFailed(item.result_reason.value.name if item.result_reason else "no reason")
