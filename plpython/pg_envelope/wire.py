"""Reads and writes frames on the socket between backend and broker: FORMAT.md section 4. Both sides use it. It does no
I/O.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from pg_envelope import errors, json_text
from pg_envelope.typed import Any, NotRequired, TypedDict

PROTOCOL = 1
MAX_BODY = 1 << 20
LENGTH_BYTES = 4

Message = dict[str, Any]


class Who(TypedDict):
    """Tells the audit log who asks. No decision depends on it.

    `instance` names the running database, for the broker's sightings of copies: its OID / the data directory's inode /
    when the server started. It is None on a standby.
    """

    database: str
    role: str
    acting: str
    client: str | None
    application: str
    pid: int
    instance: NotRequired[str | None]


class Field(TypedDict):
    """One field key to derive; `salt` in base64, `label` is schema.table.column or the key's name."""

    key_id: int
    field_uuid: str
    salt: str
    label: str


class Dek(TypedDict):
    """One DEK to unwrap; `wrapped` is None in store 'vault', `fingerprint` in base64."""

    dek_id: int
    kek: str
    store: str
    wrapped: str | None
    fingerprint: str
    fields: NotRequired[list[Field]]


def frame(message: Message) -> bytes:
    """Returns length (4, big endian) | JSON. Raises BadInput when the body is over MAX_BODY."""
    body = json_text.dumps(message).encode()
    if len(body) > MAX_BODY:
        raise errors.BadInput("the request is too large", detail=f"at most {MAX_BODY} bytes")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_length(prefix: bytes) -> int:
    """Returns the body's length from its 4-byte prefix. Raises BadInput when it is over MAX_BODY."""
    length = int.from_bytes(prefix, "big")
    if length > MAX_BODY:
        raise errors.BadInput("the message is too large", detail=f"at most {MAX_BODY} bytes")
    return length


def parse(body: bytes) -> Message:
    """Returns the JSON object of a body. Raises BadInput for anything else, without repeating what came."""
    try:
        message = json_text.loads(body.decode())
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise errors.BadInput("the message is not a JSON object")
    return message


def to_base64(content: bytes) -> str:
    return b2a_base64(content, newline=False).decode()


def from_base64(text: str) -> bytes:
    """Raises ValueError for anything but whole, padded base64."""
    return a2b_base64(text, strict_mode=True)


def failure(error: errors.EnvelopeError) -> Message:
    """Returns the response that carries an error."""
    return {"v": PROTOCOL, "ok": False, "error": error_body(error)}


def error_body(error: errors.EnvelopeError) -> Message:
    return {"code": error.code, "message": error.message, "detail": error.detail, "hint": error.hint}


def error_from(body: object) -> errors.EnvelopeError:
    """Returns the exception for the `error` object of a response. An unknown code or another shape becomes Internal."""
    fields = body if isinstance(body, dict) else {}
    kind = errors.BY_CODE.get(str(fields.get("code")), errors.Internal)
    message, detail, hint = (_text(fields.get(name)) for name in ("message", "detail", "hint"))
    return kind(message, detail=detail, hint=hint)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
