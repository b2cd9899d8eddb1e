"""The file of a sealed backup: it opens as it was written, and not otherwise."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from pg_envelope import break_glass, derivation, keys_backup
from pg_envelope_client.backups import head as heads
from pg_envelope_client.backups import keys
from pg_envelope_client.backups.head import AboutCluster, BackupHead, Escrow, sealed_about
from pg_envelope_client.backups.sealed_backup import OpenBackup, write
from pg_envelope_client.keys_backup.opening import Holder
from pg_envelope_client.problems import Problem
from pg_envelope_client.sealing.broker import BackupDek
from pg_envelope_client.sealing.files import CHUNK, SEALED_CHUNK

DEK = bytes(range(32))
DEK_ID = heads.FIRST_DEK_ID + 7
ABOUT = AboutCluster("shop", "postgres", ("app", "postgres", 'Odd "Näme"'))
GLASS = X25519PrivateKey.generate()


def made() -> BackupHead:
    database = uuid4()
    place = keys_backup.SealPlace(keys_backup.BACKUP, "prod", database)
    escrow = Escrow(
        "prod", keys_backup.public_text(GLASS.public_key()), keys_backup.seal(GLASS.public_key(), place, DEK_ID, DEK)
    )
    dek = BackupDek(DEK_ID, "default", "vault:v1:x", derivation.fingerprint(DEK, DEK_ID))
    head = BackupHead("one", "dump", "2026-01-01T00:00:00+00:00", database, dek, uuid4(), os.urandom(32), escrow, b"")
    return BackupHead(**{**vars(head), "about": sealed_about(head.file_key(DEK), ABOUT)})


HEAD = made()
KEY = HEAD.file_key(DEK)


def written(path: Path, content: bytes, head: BackupHead = HEAD) -> bytes:
    path.unlink(missing_ok=True)
    write(path, head, head.file_key(DEK), io.BytesIO(content), lambda: None)
    return path.read_bytes()


def opened(path: Path, content: bytes) -> bytes:
    """What a reader gets of a file with this content. Raises Problem."""
    path.write_bytes(content)
    found = OpenBackup(path, heads.read(path), KEY)
    found.check()
    target = io.BytesIO()
    found.write(target)
    return target.getvalue()


SIZES = st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])


@given(SIZES)
def test_it_comes_back(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path, content = tmp_path_factory.mktemp("backup") / "one.backup", os.urandom(size)
    assert opened(path, written(path, content)) == content
    assert OpenBackup(path, heads.read(path), KEY).about == ABOUT


@given(st.data())
def test_nothing_else_opens(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("backup") / "one.backup"
    whole, start = written(path, os.urandom(2 * CHUNK + 99)), len(HEAD.written())
    place = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, start + 3))
    chunks = [whole[at : at + SEALED_CHUNK] for at in range(start, len(whole), SEALED_CHUNK)]
    order = data.draw(st.permutations(range(3)) | st.lists(st.integers(0, 2), max_size=4))
    altered = data.draw(
        st.sampled_from(
            [
                whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :],
                whole[:place],
                whole[:place] + whole[place + 1 :],
                whole + b"\0",
                whole[:start] + b"".join(chunks[number] for number in order),
            ]
        )
    )
    if altered != whole:
        with pytest.raises(Problem):
            opened(path, altered)


def test_the_chunks_of_another_backup_with_the_same_key_do_not_open(tmp_path: Path) -> None:
    other = BackupHead(**{**vars(HEAD), "label": "two"})
    start, path = len(HEAD.written()), tmp_path / "one.backup"
    with pytest.raises(Problem):
        opened(path, HEAD.written() + written(path, b"x" * 99, other)[start:])


JUNK = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.just({})
)
PLACES = [(name,) for name in json.loads(HEAD.written()[12:])]
PLACES += [(top, name) for top in ("key", "break_glass") for name in json.loads(HEAD.written()[12:])[top]]


@given(st.sampled_from(PLACES), JUNK, st.booleans())
def test_a_head_of_another_form_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, ...], junk: object, gone: bool
) -> None:
    told: Any = json.loads(HEAD.written()[12:])
    inner = told if len(place) == 1 else told[place[0]]
    if gone:
        del inner[place[-1]]
    else:
        inner[place[-1]] = junk
    text = json.dumps(told, separators=(",", ":")).encode()
    assume(text != HEAD.written()[12:])
    path = tmp_path_factory.mktemp("backup") / "one.backup"
    path.write_bytes(heads.MAGIC + len(text).to_bytes(4, "big") + text)
    with pytest.raises(Problem):
        OpenBackup(path, heads.read(path), KEY).check()


@given(st.binary(max_size=40))
def test_what_is_no_backup(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("backup") / "one.backup"
    for before in (b"", heads.MAGIC, heads.MAGIC + b"\0\0\0\x28", heads.MAGIC + b"\xff\xff\xff\xff"):
        path.write_bytes(before + content)
        with pytest.raises(Problem):
            heads.read(path)


def test_a_source_that_did_not_end_well_makes_no_file(tmp_path: Path) -> None:
    def ended() -> None:
        raise Problem("pg_dump failed")

    with pytest.raises(Problem, match="pg_dump failed"):
        write(tmp_path / "one.backup", HEAD, KEY, io.BytesIO(b"x" * (CHUNK + 1)), ended)
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "one.backup", b"first")
    with pytest.raises(Problem, match="exists already"):
        write(tmp_path / "one.backup", HEAD, KEY, io.BytesIO(b"second"), lambda: None)


def holder(folder: Path, private: X25519PrivateKey) -> Holder:
    key, passphrase = folder / "key", folder / "passphrase"
    for path, content in (
        (key, break_glass.write(private, "correct horse battery", {"n": 1 << 4, "r": 8, "p": 1})),
        (passphrase, b"correct horse battery\n"),
    ):
        path.touch(0o600)
        path.write_bytes(content)
    return Holder(key, passphrase, [], False)


def test_the_break_glass_key(tmp_path: Path) -> None:
    ours = holder(tmp_path, GLASS)
    assert keys.by_break_glass(ours, HEAD, tmp_path) == KEY
    for change, said in [
        ({"escrow": None}, "not sealed for a break-glass key"),
        ({"database": uuid4()}, "does not open"),
        ({"dek": HEAD.dek._replace(dek_id=DEK_ID + 1)}, "does not open"),
        ({"dek": HEAD.dek._replace(fingerprint=bytes(16))}, "does not open"),
        ({"escrow": HEAD.escrow and HEAD.escrow._replace(environment="test")}, "does not open"),
        ({"escrow": HEAD.escrow and HEAD.escrow._replace(sealed="keysbackup1:AA==")}, "does not open"),
    ]:
        with pytest.raises(Problem, match=said):
            keys.by_break_glass(ours, BackupHead(**{**vars(HEAD), **change}), tmp_path)
    with pytest.raises(Problem, match="another break-glass key"):
        keys.by_break_glass(holder(tmp_path, X25519PrivateKey.generate()), HEAD, tmp_path)


@pytest.mark.parametrize("label", ["", "../up", "a/b", ".hidden", "x" * 121, "a b", "ä", "a\n", "-x"])
def test_a_label_that_could_be_no_file_of_the_folder(label: str) -> None:
    with pytest.raises(Problem):
        heads.checked_label(label)
