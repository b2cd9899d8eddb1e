"""Files of keys, and the ledger of reads: the package reads the vectors; the second implementation sees each change."""

from __future__ import annotations

import base64
import json
import mmap
import sys
from pathlib import Path
from typing import Any

import pytest

from pg_envelope import break_glass, errors, reads_check, ring
from pg_envelope.broker.kms.providers import base, keyring_file, secrets
from pg_envelope.checkpoints import PublicKey
from tests.vectors import check
from tests.vectors.test_vectors import VECTORS, named


def test_a_ring_is_read() -> None:
    """The words are in this machine's order, so another machine cannot read the bytes."""
    (vector,) = VECTORS["rings"]
    if vector["order"] != sys.byteorder:
        pytest.skip("another byte order")
    with mmap.mmap(-1, ring.SIZE) as memory:
        memory[: len(vector["head"]) // 2] = bytes.fromhex(vector["head"])
        with ring.words(memory) as words:
            assert (ring.id_of(memory), words[ring.PUBLISHED]) == (vector["ring"], vector["published"])
            for slot in vector["slots"]:
                content = bytes.fromhex(slot["bytes"])
                memory[slot["offset"] : slot["offset"] + len(content)] = content
                body = ring.read(memory, words, slot["seq"])
                assert body is not None
                assert (json.loads(body), ring.rows(memory, words, slot["seq"])) == (slot["body"], slot["rows"])


def test_a_ledger_of_reads_is_checked(tmp_path: Path) -> None:
    (vector,) = VECTORS["read_ledgers"]
    path, public = tmp_path / "reads.jsonl", PublicKey.parse(vector["public"])
    path.write_text(vector["text"])
    reads_check.checkpoints_path(path).write_text(vector["checkpoints"])
    found = reads_check.check(path, public)
    assert (found.problems, found.checkpoints, found.signed) == ([], len(vector["sizes"]), max(vector["sizes"]))
    path.write_text(vector["text"].replace('"count":1', '"count":0', 1))
    assert reads_check.check(path, public).problems


@pytest.mark.parametrize("vector", named(VECTORS["keyrings"]))
def test_a_keyring(vector: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.touch(mode=0o600)
    path.write_text(vector["text"])
    keks = keyring_file._open(path, vector["passphrase"]).keks
    found = {name: {number: base64.b64decode(kek).hex() for number, kek in kek.items()} for name, kek in keks.items()}
    assert found == vector["keks"]
    path.write_text(vector["text"].replace("scrypt", "SCRYPT"))
    with pytest.raises(errors.NotConfigured):
        keyring_file._open(path, vector["passphrase"])


@pytest.mark.parametrize("vector", named(VECTORS["secrets_wraps"]))
def test_a_wrap_of_two_secrets(vector: dict[str, Any]) -> None:
    version = base.kek_version(vector["wrapped"])
    kek = secrets._kek(vector["base"].encode(), vector["purpose"].encode(), vector["kek"], version)
    item = base.Item(wrapped=vector["wrapped"], context=vector["context"])
    if vector["dek"] is not None:
        assert secrets._opened({version: kek}, item).hex() == vector["dek"]
        return
    with pytest.raises(errors.UnwrapFailed):
        secrets._opened({version: kek}, item)


@pytest.mark.parametrize("vector", named(VECTORS["break_glass_files"]))
def test_a_break_glass_file(vector: dict[str, Any]) -> None:
    if vector["private_key"] is not None:
        private = break_glass.read(vector["text"].encode(), vector["passphrase"])
        assert private.private_bytes_raw().hex() == vector["private_key"]
        return
    with pytest.raises(errors.BadInput):
        break_glass.read(vector["text"].encode(), vector["passphrase"])


# The members whose every byte counts, and the member without which a vector must not open.
WHOLE = {
    "keyrings": (("passphrase", "text"), "keks"),
    "secrets_wraps": (("base", "purpose", "context", "wrapped"), "dek"),
    "break_glass_files": (("passphrase", "text"), "private_key"),
    "read_ledgers": (("seed", "origin", "public", "statement", "text", "checkpoints"), "text"),
}


@pytest.mark.parametrize(("kind", "part"), [(kind, part) for kind, (parts, _) in WHOLE.items() for part in parts])
def test_the_second_implementation_notices_another_byte(kind: str, part: str) -> None:
    for vector in VECTORS[kind]:
        if vector[WHOLE[kind][1]] is not None:
            with pytest.raises((AssertionError, ValueError, LookupError)):
                check.CHECKS[kind](vector | {part: altered(vector[part])})


def test_the_second_implementation_notices_another_slot() -> None:
    (vector,) = VECTORS["rings"]
    for number, slot in enumerate(vector["slots"]):
        slots = [*vector["slots"]]
        slots[number] = slot | {"bytes": altered(slot["bytes"])}
        with pytest.raises((AssertionError, ValueError)):
            check.CHECKS["rings"](vector | {"slots": slots})


def altered(text: str) -> str:
    """Another hexadecimal digit, or letter, two fifths from the beginning."""
    place = 2 * len(text) // 5
    return text[:place] + ("b" if text[place] != "b" else "a") + text[place + 1 :]
