"""Keeps checkpoints where the broker's user cannot change them later: in a file elsewhere, in syslog, or in a KV."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable
from pathlib import Path

from pg_envelope import errors
from pg_envelope.broker.ledger import held
from pg_envelope.checkpoints import LOGGED

SYSLOG, DEVICE = "syslog", "/dev/log"
# Facility authpriv, severity notice: RFC 5424 section 6.2.1.
PRIORITY = 10 * 8 + 5
PATIENCE_SECONDS = 5.0


# Takes a note. It raises Internal when the note does not get there.
Keep = Callable[[bytes], None]


def anchor_of(setting: str, kv: Keep | None = None) -> Keep:
    """Returns what takes notes to the anchor that a setting names. `kv` takes those to a KV."""
    if kv is not None:
        return kv
    kind, _, place = setting.partition(":")
    if kind == SYSLOG:
        return lambda note: log(place or DEVICE, note)
    return lambda note: append(Path(setting), note)


def append(path: Path, content: bytes) -> None:
    """Adds to a file, and returns once that is on the disk. Raises Internal."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, held.MODE)
        try:
            os.write(file, content)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise errors.Internal(f"the broker cannot write {path.name}", error.strerror) from None


def log(device: str, note: bytes) -> None:
    """Sends a note as one line, in base64, since syslog has no lines within lines. Raises Internal.

    What syslog does with the line, it does not say.
    """
    line = f"<{PRIORITY}>pg-envelope: {LOGGED}{base64.b64encode(note).decode()}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(PATIENCE_SECONDS)
            sender.connect(device)
            sender.send(line.encode())
    except OSError as error:
        raise errors.Internal("the broker cannot write to syslog", error.strerror or "syslog does not answer") from None
