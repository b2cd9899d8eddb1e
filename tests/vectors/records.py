"""Vectors of row keys, signatures, backups and ledgers: FORMAT.md sections 1.1 and 5 to 7."""

from __future__ import annotations

import base64
import hashlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import derivation, keys_backup
from pg_envelope.broker.ledger.ledger import Ledger, key_path
from pg_envelope.broker.requests import signing
from pg_envelope_client.keys_backup.backup_file import Head, Writer

Vector = dict[str, Any]

DATABASE = UUID("c2f8b3a1-5d3e-4c52-9f0b-7d1f3a2b4c5d")
ENVIRONMENT = "default"
TIME = "2026-01-02T03:04:05.000006+00:00"
SUBJECT = "Zoë 🦉"
ID = ["id", "integer", "42"]
# HPKE draws a key for each message, so that these cannot be made again: the package sealed them once.
SEALED = {
    7: (
        "keysbackup1:"
        "LkOgYQVBBNtx0wn17Ordepb3docUZT5aOLCtyIb8VzMgmb16XXTOX+IT94jn"
        "1a4+RXcuuhjld0IYLCnf2elW3l6WLHwBz5yQs7Ebiq9CuR8="
    ),
    8: (
        "keysbackup1:"
        "MgAU/RwxkfkQ/dv10VFAMNHlQ7tWGmskhR5RUctgF18Kbi/0d9FtfsetyZph"
        "jcHNVSew/JaLxSyMzmvsqP08tbdciUDVPIJx7tcdyQUmus8="
    ),
}
RETURNED = (
    "keysbackup1:"
    "DCXHodad7L5PKYb6crD6H0yPZSpcatqU5BYQYenfqG10SAtcB51nEYtS/hDV"
    "E8bqAfOwwbFeqSke6Y11SGHD52smiHVlo8mmeNQtcj1Y++M="
)
# The database makes row keys in SQL, so what is expected is written here by hand, from the page. A column has a name, a
# type, and the canonical text of its value. tests/integration/sql/test_row_keys.py holds PostgreSQL against these.
ROW_KEYS: list[Vector] = [
    {"name": "bound by row", "bind": "row", "scope": None, "key": [ID], "row_key": "42"},
    {"name": "bound by column", "bind": "column", "scope": None, "key": [ID], "row_key": ""},
    {
        "name": "scope comes first",
        "bind": "row",
        "scope": ["tenant", "text", "ac:me"],
        "key": [ID],
        "row_key": "5:ac:me2:42",
    },
    {
        "name": "primary key has the scope",
        "bind": "row",
        "scope": ["tenant", "text", "acme"],
        "key": [ID, ["tenant", "text", "acme"]],
        "row_key": "2:424:acme",
    },
    {
        "name": "primary key is the scope",
        "bind": "row",
        "scope": ["person", "integer", "7"],
        "key": [["person", "integer", "7"]],
        "row_key": "7",
    },
    {
        "name": "scope, bound by column",
        "bind": "column",
        "scope": ["tenant", "text", "acme"],
        "key": [ID],
        "row_key": "acme",
    },
    {
        "name": "scope in the primary key, bound by column",
        "bind": "column",
        "scope": ["tenant", "text", "acme"],
        "key": [["tenant", "text", "acme"], ID],
        "row_key": "acme",
    },
    {
        "name": "bytea, boolean, character(5), inet",
        "bind": "row",
        "scope": None,
        "key": [
            ["a", "bytea", "\\x00ff"],
            ["b", "boolean", "t"],
            ["c", "character(5)", "ab   "],
            ["d", "inet", "10.0.0.1"],
        ],
        "row_key": "6:\\x00ff1:t5:ab   8:10.0.0.1",
    },
    {
        "name": "numeric, times, uuid, one byte",
        "bind": "row",
        "scope": None,
        "key": [
            ["a", "numeric(10,2)", "1.50"],
            ["b", "timestamp with time zone", "2026-01-02 01:04:00+00"],
            ["c", "date", "0044-03-15 BC"],
            ["d", "uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
            ["e", '"char"', "\\303"],
            ["f", "interval", "P1Y2M3DT4H"],
        ],
        "row_key": (
            "4:1.5022:2026-01-02 01:04:00+0013:0044-03-15 BC36:6ba7b810-9dad-11d1-80b4-00c04fd430c84:\\30310:P1Y2M3DT4H"
        ),
    },
    {
        "name": "array of texts, double precision",
        "bind": "row",
        "scope": None,
        "key": [["a", "text[]", '{a,"b c",NULL}'], ["b", "double precision", "1e-07"]],
        "row_key": '14:{a,"b c",NULL}5:1e-07',
    },
    {
        "name": "one character, two code points",
        "bind": "row",
        "scope": ["person", "text", "e\u0301"],
        "key": [["id", "text", "é"]],
        "row_key": "2:e\u03011:é",
    },
    {
        "name": "an empty text, and one beyond the first plane",
        "bind": "row",
        "scope": None,
        "key": [["a", "text", ""], ["b", "text", "🦉🦉"]],
        "row_key": "0:2:🦉🦉",
    },
]


def drawn(label: str, count: int) -> bytes:
    """Fixed bytes that look random."""
    return hashlib.shake_256(f"pg_envelope vectors, {label}".encode()).digest(count)


DEKS = {7: drawn("DEK", 32), 8: drawn("another DEK", 32)}
PRIVATE = drawn("break-glass key", 32)


def signatures() -> Iterator[Vector]:
    broker = {"environment": ENVIRONMENT, "database": str(DATABASE), "time": TIME, "who": {"role": "r", "acting": "r"}}
    for name, statement in {"empty": {}, "text": {"rows": 3, "é": ["\n", None, 1.5, SUBJECT]}}.items():
        signed = signing.sign(DEKS[7], statement, broker)
        yield {
            "name": name,
            "dek": DEKS[7].hex(),
            "broker": broker,
            "statement": statement,
            "text": signed.text,
            "signature": _base64(signed.signature),
            "public_key": _base64(signed.public_key),
        }


def sealed() -> Iterator[Vector]:
    yield _sealed("for a backup", SEALED[7], DEKS[7], "keys_backup")
    yield _sealed("for the way back", RETURNED, DEKS[7], "keys_return")
    yield _sealed("for a backup, given to a broker", SEALED[7], None, "keys_return")
    yield _sealed("of another DEK id", SEALED[8], None, "keys_backup")
    yield _sealed("in another environment", SEALED[7], None, "keys_backup", environment="production")


def _sealed(name: str, text: str, dek: bytes | None, purpose: str, environment: str = ENVIRONMENT) -> Vector:
    place = {"purpose": purpose, "environment": environment, "database_uuid": str(DATABASE), "dek_id": 7}
    return {"name": name, "private_key": PRIVATE.hex(), **place, "sealed": text, "dek": dek and dek.hex()}


def backups() -> Iterator[Vector]:
    file = io.BytesIO()
    writer = Writer(file)
    public = keys_backup.public_text(X25519PrivateKey.from_private_bytes(PRIVATE).public_key())
    writer.head(Head(DATABASE, ENVIRONMENT, public, TIME))
    for dek_id, text in SEALED.items():
        fingerprint = derivation.fingerprint(DEKS[dek_id], dek_id).hex()
        place = {"key_uuid": str(UUID(int=dek_id)), "label": "public.customer", "kek": "default", "store": "catalog"}
        told = {"version": 1, "state": "active", "kek_version": 1, "fingerprint": fingerprint, "sealed": text}
        writer.dek({"dek_id": dek_id, **place, **told})
    writer.end()
    yield {
        "name": "two DEKs",
        "private_key": PRIVATE.hex(),
        "purpose": "keys_backup",
        "made": TIME,
        "deks": {str(dek_id): dek.hex() for dek_id, dek in DEKS.items()},
        "text": file.getvalue().decode(),
    }


def ledgers() -> Iterator[Vector]:
    seed = drawn("seed of a ledger", 32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "erasures.jsonl"
        for file, content in ((path, b""), (key_path(path), seed.hex().encode())):
            file.touch(mode=0o600)
            file.write_bytes(content)
        ledger = Ledger(path)
        list(ledger.load())
        for facts in _erased():
            ledger.add(facts)
        ledger.close()
        text = path.read_text()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    told = {"seed": seed.hex(), "public_key": _base64(public), "subject": SUBJECT, "text": text}
    yield {"name": "a subject, a table, one taken over", **told, "head": ledger.head}


def _erased() -> Iterator[Vector]:
    """As the broker writes them: a subject, a whole table, and an entry out of another ledger."""
    salt = drawn("salt of a subject", 16)
    subject = {"subject": hashlib.sha256(salt + SUBJECT.encode()).hexdigest(), "salt": salt.hex()}
    place = {"database": str(DATABASE), "time": TIME, "who": {"role": "r", "acting": "r"}, "label": "public.person"}
    dek = [7, derivation.fingerprint(DEKS[7], 7).hex(), "default", "catalog", 1]
    yield {**place, **subject, "reason": "asked for", "deks": [dek]}
    yield {**place, "subject": None, "salt": None, "reason": "", "deks": [[8, *dek[1:-1], None]]}
    yield {**place, **subject, "reason": "", "from": {"ledger": "another", "line": 3}, "deks": [dek]}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
