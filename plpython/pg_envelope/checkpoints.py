"""Writes and checks checkpoints of the ledger of reads: signed notes of C2SP (signed-note, tlog-checkpoint)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pg_envelope import errors
from pg_envelope.typed import NamedTuple

ED25519 = b"\1"
KEY_ID_BYTES = 4
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
# Before a note in a line of syslog.
LOGGED = "pg_envelope checkpoint "
DASH = "\N{EM DASH} "


class Checkpoint(NamedTuple):
    """Says that the first `size` lines have this root. `time` is in seconds since 1970."""

    origin: str
    size: int
    root: bytes
    time: int

    @property
    def text(self) -> str:
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\ntime {self.time}\n"


class PublicKey(NamedTuple):
    """The name of a ledger, and its key. `str` gives the form that people keep and pass on."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Reads name+id+key. Raises BadInput."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        found = cls(name, raw[1:])
        if raw[:1] != ED25519 or len(found.key) != PUBLIC_BYTES or found.id.hex() != key_id:
            raise errors.BadInput("this is not the public key of a ledger of reads")
        return found

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.key).decode()}"

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.key).digest()[:KEY_ID_BYTES]


def signed(found: Checkpoint, key: Ed25519PrivateKey) -> str:
    """Returns the note, with the empty line that ends it in a file."""
    public = PublicKey(found.origin, key.public_key().public_bytes_raw())
    signature = base64.b64encode(public.id + key.sign(found.text.encode())).decode()
    return f"{found.text}\n{DASH}{found.origin} {signature}\n\n"


def opened(note: str, public: PublicKey) -> Checkpoint:
    """Returns what a note says. Raises BadInput unless the key signed it."""
    text, _, signature = note.strip("\n").rpartition(f"\n\n{DASH}{public.name} ")
    text += "\n"
    try:
        raw = base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(public.key).verify(raw[KEY_ID_BYTES:], text.encode())
        origin, size, root, time = text.splitlines()
        found = Checkpoint(origin, int(size), base64.b64decode(root, validate=True), int(time.removeprefix("time ")))
    except (ValueError, InvalidSignature):
        raise errors.BadInput("a checkpoint does not hold: this key did not sign it") from None
    if origin != public.name or raw[:KEY_ID_BYTES] != public.id or found.text != text:
        raise errors.BadInput("a checkpoint does not hold: it is another ledger's")
    return found


def key_id(note: str) -> str | None:
    """Returns the id of the key that a note says it was signed with, in hex. None for what is no note."""
    try:
        raw = base64.b64decode(note.strip("\n").rpartition(" ")[2], validate=True)
    except ValueError:
        return None
    return raw[:KEY_ID_BYTES].hex() if len(raw) == KEY_ID_BYTES + SIGNATURE_BYTES else None


def notes(content: str) -> Iterator[str]:
    """Yields the notes of a file of checkpoints. A note that was not written to its end is left out."""
    start = 0
    while (signature := content.find(f"\n\n{DASH}", start)) >= 0:
        end = content.find("\n\n", signature + 2)
        if end < 0:
            return
        yield content[start : end + 1]
        start = end + 2


def logged(content: str, public: PublicKey) -> Iterator[Checkpoint]:
    """Yields the checkpoints of this key in the lines of a syslog. Any program writes there, so other lines that look
    like checkpoints are passed over: they take nothing away from those that hold.
    """
    for found in re.findall(rf"{LOGGED}([\w+/]+=*)", content):
        try:
            yield opened(base64.b64decode(found, validate=True).decode(), public)
        except (errors.BadInput, ValueError):
            continue
