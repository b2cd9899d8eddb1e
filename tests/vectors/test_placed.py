"""Sealed backups and values of applications: the package opens what it must, and refuses what it must."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import break_glass, errors
from pg_envelope_client import SealedCache, SealedReader, open_file
from pg_envelope_client import Vector as Numbers
from pg_envelope_client.backups import head as heads
from pg_envelope_client.backups import keys
from pg_envelope_client.backups.sealed_backup import OpenBackup
from pg_envelope_client.keys_backup.opening import Holder
from pg_envelope_client.problems import Problem
from tests.vectors import check, check_placed, check_sealed
from tests.vectors.local import OTHER_FIELD, local_key
from tests.vectors.placed import Kept
from tests.vectors.test_vectors import VECTORS, named

Vector = dict[str, Any]
OTHERS: Vector = {"field_key": "01" * 32, "nonce": "01" * 12, "key_id": 8, "field_uuid": str(OTHER_FIELD)}
OF_CACHE: Vector = {**OTHERS, "prefix": "other:", "cache_name": "other", "content": "00"}
OF_FILE: Vector = {**OTHERS, "place": "cache", "names": ["other"], "content_seed": "other", "file_key": "01" * 32}
OF_BACKUP: Vector = {"dek": "01" * 32, "about": {}, "content_bytes": 9, "file_key": "01" * 32}


@pytest.mark.parametrize(
    ("kind", "part", "other"),
    [
        (kind, part, other)
        for kind, changes in {"cache_values": OF_CACHE, "placed_files": OF_FILE, "sealed_backups": OF_BACKUP}.items()
        for part, other in changes.items()
    ],
)
def test_the_second_implementation_notices_another_part(kind: str, part: str, other: object) -> None:
    for vector in VECTORS[kind]:
        with pytest.raises((AssertionError, ValueError)):
            check.CHECKS[kind](vector | {part: other})


@pytest.mark.parametrize("vector", named(VECTORS["number_vectors"]))
def test_the_second_implementation_notices_another_number(vector: Vector) -> None:
    with pytest.raises(AssertionError):
        check.CHECKS["number_vectors"](vector | {"numbers": ["7.5", "7.5"]})


@pytest.mark.parametrize("vector", named(VECTORS["cache_values"]))
def test_a_cached_value_opens_in_its_place_only(vector: Vector) -> None:
    envelope, key = bytes.fromhex(vector["envelope"]), local_key(content=bytes.fromhex(vector["field_key"]))
    kept = Kept({vector["stored_name"]: envelope, "other": envelope})
    assert SealedCache(kept, key, vector["prefix"]).get(vector["cache_name"]) == bytes.fromhex(vector["content"])
    assert SealedCache(kept, key).get("other") is None
    # The same name in the cache, cut in another place.
    for place in range(len(vector["stored_name"]) + 1):
        prefix, name = vector["stored_name"][:place], vector["stored_name"][place:]
        found = SealedCache(kept, key, prefix).get(name)
        assert (found is None) is (prefix != vector["prefix"])


@pytest.mark.parametrize("vector", named(VECTORS["number_vectors"]))
def test_a_vector_is_written_and_read(vector: Vector) -> None:
    numbers = [float(number) for number in vector["numbers"]]
    if vector["content"] is None:
        with pytest.raises(errors.BadInput):
            Numbers(numbers)
        return
    content = bytes.fromhex(vector["content"])
    assert bytes(Numbers(numbers)) == content == bytes(Numbers.read(content))


@given(st.lists(st.floats(), max_size=9))
def test_any_numbers_are_the_same_bytes_for_both_implementations(numbers: list[float]) -> None:
    expected = check_placed.numbers(numbers)
    if expected is None:
        with pytest.raises(errors.BadInput):
            Numbers(numbers)
        return
    assert bytes(Numbers(numbers)) == expected
    assert all(map(math.isfinite, Numbers.read(expected).to_list()))


@given(st.binary(max_size=24))
def test_any_bytes_are_a_vector_for_both_or_for_none(content: bytes) -> None:
    whole = len(content) % 4 == 0
    expected = check_placed.numbers(list(memoryview(content).cast("f"))) if whole else None
    try:
        found: bytes | None = bytes(Numbers.read(content))
    except errors.BadInput:
        found = None
    assert found == expected
    assert found in (None, content)


@pytest.mark.parametrize("vector", named(VECTORS["placed_files"]))
def test_a_file_in_a_place_opens_there_only(vector: Vector) -> None:
    sealed, key = check_sealed.sealed_file(vector), local_key(content=bytes.fromhex(vector["field_key"]))
    content = hashlib.shake_256(vector["content_seed"].encode()).digest(vector["content_bytes"])
    assert SealedReader(key, io.BytesIO(sealed), vector["context"]).read() == content
    for other in VECTORS["placed_files"]:
        if other is not vector:
            with pytest.raises(errors.InvalidEnvelope):
                open_file(key, io.BytesIO(sealed), io.BytesIO(), other["context"])


def opened(path: Path, vector: Vector, content: bytes) -> tuple[bytes, Any]:
    """The content and what the head tells. Raises Problem."""
    path.write_bytes(content)
    found = OpenBackup(path, heads.read(path), bytes.fromhex(vector["file_key"]))
    target = io.BytesIO()
    found.write(target)
    return target.getvalue(), found.about


@pytest.mark.parametrize("vector", named(VECTORS["sealed_backups"]))
def test_a_sealed_backup_opens(vector: Vector, tmp_path: Path) -> None:
    path = tmp_path / "one.backup"
    content, about = opened(path, vector, check_placed.sealed_backup(vector))
    assert content == hashlib.shake_256(vector["content_seed"].encode()).digest(vector["content_bytes"])
    assert {**about._asdict(), "roles": list(about.roles)} == vector["about"]
    head = heads.read(path)
    assert head.file_key(bytes.fromhex(vector["dek"])).hex() == vector["file_key"]
    if vector["private_key"] is None:
        return
    assert keys.by_break_glass(holder(tmp_path, vector), head, path).hex() == vector["file_key"]


def holder(folder: Path, vector: Vector) -> Holder:
    private = break_glass.X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["private_key"]))
    key, passphrase = folder / "key", folder / "passphrase"
    written = break_glass.write(private, "correct horse battery", {"n": 1 << 4, "r": 8, "p": 1})
    for path, content in ((key, written), (passphrase, b"correct horse battery\n")):
        path.touch(0o600)
        path.write_bytes(content)
    return Holder(key, passphrase, [], False)


@pytest.mark.parametrize("vector", named(VECTORS["malformed_sealed_backups"]))
def test_a_malformed_backup_is_refused(vector: Vector, tmp_path: Path) -> None:
    with pytest.raises(Problem):
        opened(tmp_path / "one.backup", vector, check_placed.malformed_backup(vector))
