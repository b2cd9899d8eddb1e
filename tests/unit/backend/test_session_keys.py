"""The keyring and the epoch: a key is used while nobody revoked it, and no longer than its time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.backend import session_keys
from pg_envelope.backend.epoch import MAGIC, Epoch
from pg_envelope.backend.session_keys import Fetched, SessionKeys
from pg_envelope.envelope import FieldKey

SLOT = bytes(16) + b"\xe1\x01\0\0\0\1"
OTHER = bytes(16) + b"\xe1\x01\0\0\0\2"


class EpochFile:
    """The broker's side of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(MAGIC + bytes(8))

    def bump(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(8)
            file.write(os.urandom(8))

    def replace(self) -> None:
        self.path.unlink()
        self.path.write_bytes(MAGIC + os.urandom(8))


class Loads:
    """What a keyring loads through; counts, and says how long keys live."""

    def __init__(self) -> None:
        self.slots: list[bytes] = []
        self.ttl = 60.0
        self.ahead: list[bytes] = []
        self.made: list[bytes] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self, slot: bytes, _: SessionKeys) -> dict[bytes, Fetched]:
        self.slots.append(slot)
        self.meanwhile()
        return {found: self.key(found) for found in (slot, *self.ahead)}

    def key(self, _: bytes) -> Fetched:
        return Fetched(bytes(32), monotonic() + self.ttl, self.make)

    def make(self, slot: bytes, content: bytes, ends: float) -> FieldKey:
        self.made.append(slot)
        return FieldKey(slot[16:], bytes(16), content, ends)


@pytest.fixture
def file(tmp_path: Path) -> EpochFile:
    return EpochFile(tmp_path / "epoch")


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def ring(file: EpochFile, loads: Loads) -> SessionKeys:
    return SessionKeys(Epoch(str(file.path), frozenset({os.geteuid()})), loads)


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file at its path is looked at on every use."""
    monkeypatch.setattr(session_keys, "LOOK_SECONDS", -1.0)


def test_a_key_is_loaded_once(ring: SessionKeys, loads: Loads) -> None:
    assert ring.get(SLOT) is ring.get(SLOT)
    ring.get(OTHER)
    assert loads.slots == [SLOT, OTHER]


@pytest.mark.usefixtures("looking")
def test_a_look_at_the_file_loads_nothing(ring: SessionKeys, loads: Loads) -> None:
    assert ring.get(SLOT) is ring.get(SLOT)
    assert loads.slots == [SLOT]


def test_a_key_ends_with_its_time(ring: SessionKeys, loads: Loads) -> None:
    loads.ttl = -1
    ring.get(SLOT)
    ring.get(SLOT)
    assert loads.slots == [SLOT, SLOT]


def test_a_bump_empties_the_keyring(ring: SessionKeys, loads: Loads, file: EpochFile) -> None:
    ring.get(SLOT)
    file.bump()
    ring.get(SLOT)
    assert loads.slots == [SLOT, SLOT]


def test_a_bump_while_a_key_is_on_its_way_makes_it_stale(ring: SessionKeys, loads: Loads, file: EpochFile) -> None:
    loads.meanwhile = file.bump
    ring.get(SLOT)
    loads.meanwhile = lambda: None
    ring.get(SLOT)
    assert loads.slots == [SLOT, SLOT]


@pytest.mark.usefixtures("looking")
def test_a_file_that_was_replaced_empties_the_keyring(ring: SessionKeys, loads: Loads, file: EpochFile) -> None:
    ring.get(SLOT)
    file.replace()
    ring.get(SLOT)
    assert loads.slots == [SLOT, SLOT]
    file.bump()
    ring.get(SLOT)
    assert loads.slots == [SLOT, SLOT, SLOT]


@pytest.mark.usefixtures("looking")
def test_without_the_file_no_key_is_used(ring: SessionKeys, loads: Loads, file: EpochFile) -> None:
    ring.get(SLOT)
    file.path.unlink()
    for _ in range(2):
        with pytest.raises(errors.Unavailable):
            ring.get(SLOT)
    assert loads.slots == [SLOT]


def test_a_load_that_fails_leaves_nothing(file: EpochFile) -> None:
    def denied(slot: bytes, _: SessionKeys) -> dict[bytes, Fetched]:
        raise errors.NotPermitted

    ring = SessionKeys(Epoch(str(file.path), frozenset({os.geteuid()})), denied)
    for _ in range(2):
        with pytest.raises(errors.NotPermitted):
            ring.get(SLOT)


def test_what_was_read_ahead_is_there(ring: SessionKeys, loads: Loads) -> None:
    loads.ahead = [OTHER]
    ring.get(SLOT)
    assert (ring.holds(OTHER), loads.made) == (True, [SLOT])
    assert ring.first_uses(SLOT[:16]) == 0
    assert ring.get(OTHER) is ring.get(OTHER)
    assert (loads.slots, loads.made) == ([SLOT], [SLOT, OTHER])
    assert (ring.first_uses(SLOT[:16]), ring.first_uses(bytes(range(16)))) == (1, 0)


def test_what_was_filled_in_is_there_until_the_epoch_moves(ring: SessionKeys, loads: Loads, file: EpochFile) -> None:
    assert ring.fill(lambda: {SLOT: loads.key(SLOT), OTHER: loads.key(OTHER)}) == 2
    ring.get(SLOT)
    assert loads.slots == []
    file.bump()
    ring.get(SLOT)
    assert loads.slots == [SLOT]


def test_a_bump_while_keys_are_filled_in_makes_them_stale(ring: SessionKeys, loads: Loads, file: EpochFile) -> None:
    def load() -> dict[bytes, Fetched]:
        file.bump()
        return {SLOT: loads.key(SLOT)}

    ring.fill(load)
    ring.get(SLOT)
    assert loads.slots == [SLOT]


def test_the_keyring_is_bounded(ring: SessionKeys, loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_keys, "MAX_KEYS", 2)
    slots = [slot_of(number) for number in range(1, 4)]
    for slot in (*slots, slots[2]):
        ring.get(slot)
        assert len(ring.keys) <= 2
    assert loads.slots == slots


def test_a_key_that_makes_room_is_made_anew_without_a_request(
    ring: SessionKeys, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_keys, "MAX_AWAKE", 2)
    slots = [slot_of(number) for number in range(1, 8)]
    for slot in slots * 3:
        ring.get(slot)
        assert len(ring.keys) <= 2
    assert loads.slots == slots
    assert len(loads.made) > len(slots)


@given(
    asked=st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=4), st.sampled_from([-1.0, 60.0])),
        max_size=30,
    )
)
def test_whatever_is_read_ahead_or_over_the_key_that_was_asked_for_is_given(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, list[int], float]]
) -> None:
    """`asked`: (key id, key ids that are loaded with it, seconds that these live), in a ring that is soon full."""
    file, loads = EpochFile(tmp_path_factory.mktemp("ring") / "epoch"), Loads()
    ring = SessionKeys(Epoch(str(file.path), frozenset({os.geteuid()})), loads)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session_keys, "MAX_KEYS", 5)
        for wanted, ahead, loads.ttl in asked:
            loads.ahead = [slot_of(number) for number in ahead]
            assert ring.get(slot_of(wanted)).head == slot_of(wanted)[16:]  # type: ignore[union-attr]
            assert len(ring.keys) <= 5
            assert ring.keys.keys() <= ring._fetched.keys()
            assert len(ring._fetched) <= 5


def slot_of(number: int) -> bytes:
    return bytes(16) + b"\xe1\x01" + number.to_bytes(4, "big")


class TestEpochFile:
    def refused(self, path: Path, owners: frozenset[int] | None = None) -> errors.EnvelopeError:
        with pytest.raises(errors.EnvelopeError) as raised:
            Epoch(str(path), owners or frozenset({os.geteuid()})).current()
        return raised.value

    def test_of_another_user(self, file: EpochFile) -> None:
        assert "may not be the broker" in self.refused(file.path, frozenset({os.geteuid() + 1})).message

    @pytest.mark.parametrize("content", [b"", MAGIC, MAGIC + bytes(7)])
    def test_that_is_too_short(self, file: EpochFile, content: bytes) -> None:
        file.path.write_bytes(content)
        assert type(self.refused(file.path)) is errors.Unavailable

    def test_of_another_format(self, file: EpochFile) -> None:
        file.path.write_bytes(b"x" * 16)
        assert "another format" in self.refused(file.path).message

    def test_that_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path, tmp_path / "fifo", tmp_path / "none", tmp_path / "fifo" / "below"):
            assert type(self.refused(path)) is errors.Unavailable


def test_a_scan_of_more_keys_than_there_is_room_for_finds_most(
    ring: SessionKeys, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_keys, "MAX_KEYS", 1000)
    slots = [bytes(18) + number.to_bytes(4, "big") for number in range(1050)]
    for _ in range(10):
        for slot in slots:
            ring.get(slot[:16] + b"\xe1\x01" + slot[18:])
    assert len(loads.slots) < 0.4 * 10 * len(slots)
    assert len(ring.keys) <= 1000


def test_a_key_for_one_use_is_not_kept(ring: SessionKeys, loads: Loads) -> None:
    loads.ttl = 0.0
    for count in (1, 2, 3):
        assert isinstance(ring.get(SLOT), FieldKey)
        assert (loads.slots, ring.keys, ring.holds(SLOT)) == ([SLOT] * count, {}, False)
    loads.ttl = 60.0
    assert ring.get(SLOT) is ring.get(SLOT)
    assert len(loads.slots) == 4
