"""The keyring file: what opens, what does not, and that no rotation is lost."""

from __future__ import annotations

import json
import stat
import threading

import pytest

from pg_envelope import errors
from pg_envelope.broker.kms.providers import keyring_file
from pg_envelope.broker.kms.providers.base import Item, kek_version
from pg_envelope.broker.settings.config import KeyringSettings as Settings

COST = 1 << 14
PASSPHRASE = "correct horse"


@pytest.fixture
def keyring(tmp_path):
    path = tmp_path / "keyring"
    keyring_file.create_keyring(path, PASSPHRASE, COST)
    keyring_file.add_kek(path, PASSPHRASE, "k")
    return path


@pytest.fixture
def provider(keyring):
    passphrase = keyring.with_name("passphrase")
    passphrase.touch(mode=0o600)
    passphrase.write_text(PASSPHRASE + "\n")
    return keyring_file.Keyring(Settings(keyring, passphrase))


def test_round_trip_and_rewrap(provider):
    wrapped = provider.generate("k", "here")
    (dek,) = provider.unwrap("k", [Item("here", wrapped)])
    assert len(dek) == 32
    assert provider.rotate("k") == 2
    (moved,) = provider.rewrap("k", [Item("here", wrapped)])
    assert (kek_version(wrapped), kek_version(moved)) == (1, 2)
    assert provider.unwrap("k", [Item("here", wrapped), Item("here", moved)]) == [dek, dek]


def test_a_rotation_derives_the_sealing_key_once(keyring, monkeypatch):
    """It takes most of a second of the time that a session waits."""
    derive, derived = keyring_file._sealing_key, []
    monkeypatch.setattr(keyring_file, "_sealing_key", lambda *given: derived.append(given) or derive(*given))
    assert keyring_file.rotate(keyring, PASSPHRASE, "k") == 2
    assert len(derived) == 1


BROKEN = ["keyring:v1:AAAA", "keyring:v9:", "keyring:v1:!", "vault:v1:AAAA", "", "keyring:v1:é"]


@pytest.mark.parametrize("broken", BROKEN)
def test_what_does_not_unwrap(provider, broken):
    good = provider.generate("k", "here")
    results = provider.unwrap("k", [Item("here", broken), Item("there", good), Item("here", good)])
    assert [isinstance(result, errors.UnwrapFailed) for result in results] == [True, True, False]


def test_unknown_kek(provider):
    with pytest.raises(errors.KekUnknown):
        provider.generate("other", "here")


def test_a_kek_added_by_another_process_is_seen(provider, keyring):
    provider.generate("k", "here")
    keyring_file.add_kek(keyring, PASSPHRASE, "later")
    assert provider.generate("later", "here").startswith("keyring:v1:")


def test_wrong_passphrase(provider, keyring):
    keyring.with_name("passphrase").write_text("battery")
    with pytest.raises(errors.KmsDenied):
        provider.generate("k", "here")
    with pytest.raises(errors.NotConfigured, match="does not open") as caught:
        keyring_file.rotate(keyring, "battery", "k")
    assert "battery" not in str(caught.value)


@pytest.mark.parametrize("member", ["format", "nonce", "sealed", "n", "salt"])
def test_tampered_keyring(keyring, member):
    held = json.loads(keyring.read_text())
    place = held["kdf"] if member in held["kdf"] else held
    place[member] = (
        1 << 15 if member == "n" else "A" + place[member][1:] if place[member][0] != "A" else "B" + place[member][1:]
    )
    keyring.write_text(json.dumps(held))
    with pytest.raises(errors.NotConfigured, match="does not open"):
        keyring_file.rotate(keyring, PASSPHRASE, "k")


@pytest.mark.parametrize("cost", [2, 1 << 30])
def test_the_files_word_on_the_cost_is_bounded(keyring, cost):
    held = json.loads(keyring.read_text())
    held["kdf"]["n"] = cost
    keyring.write_text(json.dumps(held))
    with pytest.raises(errors.NotConfigured, match="does not open"):
        keyring_file.rotate(keyring, PASSPHRASE, "k")


def test_concurrent_rotations_are_all_kept(keyring):
    versions = []
    threads = [
        threading.Thread(target=lambda: versions.append(keyring_file.rotate(keyring, PASSPHRASE, "k")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(2, 10))


def test_modes_and_no_clear_text(keyring):
    assert stat.S_IMODE(keyring.stat().st_mode) == 0o600
    assert [path.name for path in keyring.parent.iterdir()] == ["keyring"]
    keyring.chmod(0o640)
    with pytest.raises(errors.NotConfigured, match="open to others"):
        keyring_file.rotate(keyring, PASSPHRASE, "k")


def test_an_existing_keyring_is_not_overwritten(keyring):
    before = keyring.read_bytes()
    with pytest.raises(errors.NotConfigured, match="exists already"):
        keyring_file.create_keyring(keyring, PASSPHRASE, COST)
    with pytest.raises(errors.NotConfigured, match="already"):
        keyring_file.add_kek(keyring, PASSPHRASE, "k")
    assert keyring.read_bytes() == before
