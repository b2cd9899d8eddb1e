"""Sealed DEKs open for one key, purpose, environment, database and DEK id; the files around them tell damage."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import break_glass, errors, keys_backup
from pg_envelope.broker.requests.keys_backup import read_public_key
from pg_envelope_client.keys_backup import shares
from pg_envelope_client.keys_backup.backup_file import Head, Reader, writing
from pg_envelope_client.problems import Problem

UUID_1, UUID_2 = UUID(int=1), UUID(int=2)
PLACE = keys_backup.SealPlace(keys_backup.BACKUP, "prod", UUID_1)
PASSPHRASE = "correct horse battery staple"
CHEAP = {"n": 16, "r": 8, "p": 1}
DEK = {"key_uuid": "", "label": "", "version": 1, "state": "", "kek": "", "store": "", "kek_version": 1}


@pytest.fixture(scope="module")
def private() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


def test_a_sealed_dek_opens_where_it_belongs_and_nowhere_else(private: X25519PrivateKey) -> None:
    dek = os.urandom(32)
    sealed = keys_backup.seal(private.public_key(), PLACE, 7, dek)
    assert keys_backup.unseal(private, PLACE, 7, sealed) == dek
    content = base64.b64decode(sealed.removeprefix("keysbackup1:"))
    assert len(content) == 80
    flipped = "keysbackup1:" + base64.b64encode(content[:-1] + bytes([content[-1] ^ 1])).decode()
    others = [
        (X25519PrivateKey.generate(), PLACE, 7, sealed),
        (private, keys_backup.SealPlace(keys_backup.RETURN, "prod", UUID_1), 7, sealed),
        (private, keys_backup.SealPlace(keys_backup.BACKUP, "staging", UUID_1), 7, sealed),
        (private, keys_backup.SealPlace(keys_backup.BACKUP, "prod", UUID_2), 7, sealed),
        (private, PLACE, 8, sealed),
        (private, PLACE, 7, flipped),
        *(
            (private, PLACE, 7, text)
            for text in ("", "keysbackup1:", "keysbackup2:" + sealed[12:], sealed[:-4], sealed + "A")
        ),
    ]
    for key, place, dek_id, text in others:
        with pytest.raises(errors.UnwrapFailed):
            keys_backup.unseal(key, place, dek_id, text)


def test_a_public_key_is_one_line(private: X25519PrivateKey, tmp_path: Path) -> None:
    text = keys_backup.public_text(private.public_key())
    assert keys_backup.public_key(text + "\n").public_bytes_raw() == private.public_key().public_bytes_raw()
    for bad in ("", text[:-4], text.replace("-1:", "-2:"), "x" + text):
        with pytest.raises(errors.BadInput):
            keys_backup.public_key(bad)
    file = tmp_path / "break-glass.pub"
    file.write_text(text)
    file.chmod(0o644)
    assert read_public_key(file).public_bytes_raw() == private.public_key().public_bytes_raw()
    file.chmod(0o666)
    with pytest.raises(errors.NotConfigured, match="open to others"):
        read_public_key(file)


def test_a_key_file_opens_with_its_passphrase_only(private: X25519PrivateKey) -> None:
    content = break_glass.write(private, PASSPHRASE, CHEAP)
    assert private.private_bytes_raw() not in content
    assert break_glass.read(content, PASSPHRASE).private_bytes_raw() == private.private_bytes_raw()
    with pytest.raises(errors.BadInput, match="passphrase does not open"):
        break_glass.read(content, PASSPHRASE + "!")
    with pytest.raises(errors.BadInput, match="at least 16"):
        break_glass.write(private, "short")
    swapped = json.loads(content) | {"public_key": base64.b64encode(bytes(32)).decode()}
    dear = json.loads(content) | {"scrypt": {"n": 1 << 30, "r": 8, "p": 1}}
    for bad in (b"", b"[]", b"{}", json.dumps(swapped).encode(), json.dumps(dear).encode()):
        with pytest.raises(errors.BadInput):
            break_glass.read(bad, PASSPHRASE)


def test_a_key_file_is_dear_to_guess(private: X25519PrivateKey) -> None:
    """What production writes: the one test that pays for it."""
    assert json.loads(break_glass.write(private, PASSPHRASE))["scrypt"] == {"n": 1 << 17, "r": 8, "p": 1}


def test_shares_that_are_enough(private: X25519PrivateKey) -> None:
    secret = private.private_bytes_raw()
    words = shares.split(secret, 2, 3)
    assert shares.combine(words[1:]) == secret
    others = shares.split(secret, 2, 3)
    for bad in ([], words[:1], [words[0], others[1]], [words[0], "word " * 33]):
        with pytest.raises(Problem):
            shares.combine(bad)
    for threshold, count in ((1, 3), (4, 3), (2, 17)):
        with pytest.raises(Problem):
            shares.split(secret, threshold, count)


@pytest.fixture
def backup(private: X25519PrivateKey, tmp_path: Path) -> Path:
    with writing(tmp_path / "keys.jsonl") as writer:
        writer.head(Head(UUID_1, "prod", keys_backup.public_text(private.public_key()), "2026-01-01T00:00:00+00:00"))
        for dek_id in (1, 2, 3):
            sealed = keys_backup.seal(private.public_key(), PLACE, dek_id, bytes(32))
            writer.dek({**DEK, "dek_id": dek_id, "fingerprint": "00" * 16, "sealed": sealed})
    return tmp_path / "keys.jsonl"


def test_every_damage_is_found(backup: Path) -> None:
    assert [dek.dek_id for dek in Reader(backup).deks] == [1, 2, 3]
    whole = backup.read_bytes()
    lines = whole.splitlines(keepends=True)
    damaged = [
        b"",
        lines[0],
        b"".join(lines[:-1]),
        whole[:-1],
        b"".join([lines[0], lines[2], *lines[3:]]),
        b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
        whole + lines[1],
        whole.replace(b'"version":1', b'"version":2', 1),
        *(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(0, len(whole), 97)),
    ]
    for content in damaged:
        backup.write_bytes(content)
        with pytest.raises(Problem):
            Reader(backup)


def test_a_backup_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "keys.jsonl"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
