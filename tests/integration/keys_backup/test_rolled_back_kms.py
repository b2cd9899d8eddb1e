"""A KMS restored to before a rotation: nothing says ok, nothing makes it worse, and the broker's cache saves keys."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack

from .conftest import KEY, Vault
from .test_lost_kms import VALUES

Rows = Callable[[], list[str]]
# How often the broker looks at its KEKs.
OFTEN = {"broker": {"probe_seconds": 0.2}}
STATUS = "SELECT state, detail, hint FROM envelope.status() WHERE check_name = 'kek doomed'"
VERSIONS = "SELECT dek_id, kek_version FROM envelope_private.dek ORDER BY 1"
# The key store went back together with the KMS: what is there opens.
LOST = "SELECT dek_id, kek_version, wrapped FROM envelope_private.dek WHERE store = 'catalog' ORDER BY 1"


@dataclass
class Snapshot:
    """The KMS's data as it was when this was made.

    The KMS is killed, because to end takes it a second; its data survive that.
    """

    stack: Stack
    copy: Path

    def take(self) -> None:
        self.stack.openbao.kill()
        shutil.copytree(self.stack.openbao.data, self.copy)
        self.stack.openbao.start()

    def restore(self, *, unseal: bool = True) -> None:
        """The broker runs on, and logs in anew."""
        bao = self.stack.openbao
        bao.kill()
        shutil.rmtree(bao.data)
        shutil.copytree(self.copy, bao.data)
        bao.account.own(bao.data)
        bao.account.own_tree(bao.data)
        bao.start(unseal=unseal)


@pytest.fixture
def rolled_back(vault: Vault, tmp_path: Path) -> Vault:
    """Rotated once since the snapshot; every DEK is cached, and wrapped by a version that is no more."""
    vault.stack.broker.configure(OFTEN)
    vault.stack.broker.restart()
    snapshot = Snapshot(vault.stack, tmp_path / "snapshot")
    snapshot.take()
    wait_until(lambda: refusal(vault, "CALL envelope.rewrap('doomed')") is None, 60, "the KMS")
    vault.db.sql("CALL envelope.rotate_kek('doomed')")
    assert {version for _, version in vault.db.sql(VERSIONS)} == {2}
    vault.db.sql("SELECT envelope.flush('the broker has the wraps of now')")
    vault.db.sql("SELECT secret FROM person UNION ALL SELECT secret FROM card")
    snapshot.restore()
    wait_until(lambda: "earlier state" in vault.db.sql(STATUS)[0][1], 60, "the broker's look at the KEK")
    return vault


def refusal(vault: Vault, statement: str) -> Any:
    """The error's report; None when there is none."""
    try:
        vault.db.sql(statement)
    except psycopg.Error as error:
        return error.diag
    return None


def test_status_fails_and_nothing_says_all(rolled_back: Vault) -> None:
    ((_, detail, hint),) = rolled_back.db.sql(STATUS)
    assert "restored to an earlier state (version 1 there, 2 here)" in detail
    assert hint.startswith("Do not flush, and do not restart the broker")
    assert "keys-backup make" in hint
    before = rolled_back.db.sql(LOST)
    for call in ("rotate_kek", "rewrap"):
        found = refusal(rolled_back, f"CALL envelope.{call}('doomed')")
        assert found is not None, call
        assert "do not flush" in found.message_hint.lower()
        assert rolled_back.db.sql(LOST) == before
        held = rolled_back.stack.openbao.request("GET", KEY.format("doomed"))["data"]
        assert held["latest_version"] == 1, "another version 2 would hide it"


def test_a_version_of_the_same_number_hides_nothing(rolled_back: Vault) -> None:
    """Somebody has rotated the KEK in the KMS, as the last runbook but one says."""
    rolled_back.stack.openbao.request("POST", KEY.format("doomed") + "/rotate", {})
    wait_until(lambda: rolled_back.db.sql(STATUS)[0][0] == "ok", 60, "the broker's look at the KEK")
    for call in ("rotate_kek", "rewrap"):
        found = refusal(rolled_back, f"CALL envelope.{call}('doomed')")
        assert found is not None
        assert "do not flush" in found.message_hint.lower()
    held = rolled_back.stack.openbao.request("GET", KEY.format("doomed"))["data"]
    assert held["latest_version"] == 2


def test_the_runbook_saves_all(rolled_back: Vault, rows: Rows) -> None:
    """docs/runbooks/restore.md: a backup of the keys out of the broker's cache, then a restore under a new KEK."""
    file = rolled_back.backup()
    assert (
        "3 DEKs are back" in rolled_back.done("keys-backup", "return", file, "--kek", "rescue", *rolled_back.unlock).out
    )
    assert rows() == VALUES
    assert rolled_back.db.sql("SELECT state FROM envelope.status() WHERE check_name = 'kek rescue'") == [("ok",)]
    rolled_back.db.sql("CALL envelope.rotate_kek('rescue')")
    assert rows() == VALUES


def test_a_newer_version_of_somebody_else_is_no_alarm(vault: Vault) -> None:
    """The KEK was rotated in the KMS, or by another broker, since the broker looked."""
    vault.stack.openbao.request("POST", KEY.format("doomed") + "/rotate", {})
    vault.db.sql("SELECT envelope.rotate('card')")
    assert vault.db.one("SELECT max(kek_version) FROM envelope_private.dek") == 2
    assert vault.db.sql(STATUS)[0][0] == "ok"
    vault.db.sql("CALL envelope.rewrap('doomed')")
    vault.db.sql("CALL envelope.rotate_kek('doomed')")
    assert {version for _, version in vault.db.sql(VERSIONS)} == {3}


ALL = sorted([*VALUES, "fresh 1", "newest"])
DEKS = "SELECT * FROM envelope_private.dek ORDER BY dek_id"


@pytest.fixture
def younger(vault: Vault, tmp_path: Path) -> Vault:
    """The KMS was put back to before the KEK `late`, and before the newest key of `person`. It is sealed."""
    snapshot = Snapshot(vault.stack, tmp_path / "snapshot")
    snapshot.take()
    vault.make_kek("late")
    vault.stack.broker.configure(OFTEN)
    vault.stack.broker.restart()
    vault.db.sql("CREATE TABLE fresh (id int PRIMARY KEY, secret text)")
    vault.db.sql("INSERT INTO fresh VALUES (1, 'fresh 1')")
    vault.db.sql("""CALL envelope.protect('fresh', '["secret"]', 'late', 'vault')""")
    vault.db.sql("SELECT envelope.rotate('person')")
    vault.db.sql("INSERT INTO person VALUES (4, 'newest')")
    assert values(vault) == ALL
    snapshot.restore(unseal=False)
    return vault


def values(vault: Vault) -> list[str]:
    tables = " UNION ALL ".join(f"SELECT secret FROM {name}" for name in ("person", "card", "fresh"))
    return sorted(value for (value,) in vault.db.sql(tables))


def checks(vault: Vault) -> dict[str, tuple[str, str, str]]:
    """What is not ok, by name: state, detail, hint."""
    found = vault.db.sql("SELECT check_name, state, detail, hint FROM envelope.status() WHERE state <> 'ok'")
    return {name: (state, detail, hint) for name, state, detail, hint in found}


def detail_of(vault: Vault, check: str) -> str:
    """Empty while the check is ok."""
    return checks(vault).get(check, ("ok", "", ""))[1]


def check_of_broker(vault: Vault) -> subprocess.CompletedProcess[str]:
    """By the command that is installed, which the broker's user can run, too."""
    broker = vault.stack.broker
    command = [broker.venv / "bin/pg-envelope", "broker", "--check", "--config", broker.config_file, "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_a_snapshot_from_before_a_kek_and_a_key(younger: Vault) -> None:
    """docs/runbooks/restore.md: the backup of the keys comes first, while the KMS is sealed, and saves all."""
    wait_until(lambda: "sealed" in detail_of(younger, "kek late"), 60, "the broker's look at the KMS")
    file = younger.backup()
    younger.stack.openbao.unseal()
    wait_until(lambda: "no such key" in detail_of(younger, "kek late"), 60, "the broker's look at the KEK")
    state, detail, hint = checks(younger)["keys"]
    assert (state, detail.count("(public.fresh)"), detail.count("(public.person)")) == ("failed", 1, 1)
    assert "Do not flush" in hint
    assert "keys-backup make" in hint
    checked = check_of_broker(younger)
    assert (checked.returncode, '"kek late"' in checked.stdout) == (1, True), checked.stderr
    before = younger.db.sql(DEKS)
    calls = ("CALL envelope.rotate_kek('late')", "CALL envelope.rewrap('late')", "CALL envelope.rewrap('doomed')")
    for call in calls:
        assert "do not flush" in refusal(younger, call).message_hint, call
    assert refusal(younger, "SELECT envelope.rotate('fresh')") is not None
    assert younger.db.sql(DEKS) == before
    assert (
        KEY.format("late").split("/")[-1] not in younger.stack.openbao.request("LIST", "transit/keys")["data"]["keys"]
    )
    back = younger.done("keys-backup", "return", file, "--kek", "rescue", *younger.unlock)
    assert "5 DEKs are back" in back.out
    younger.db.sql("SELECT envelope.flush('nothing is in a cache only')")
    assert values(younger) == ALL
    assert "keys" not in checks(younger)


def test_missing_entries_stop_no_other_key_and_a_new_kek_of_the_name_hides_nothing(younger: Vault) -> None:
    younger.stack.openbao.unseal()
    younger.make_kek("late")
    wait_until(lambda: "keys" in checks(younger) and "kek late" not in checks(younger), 60, "the broker's look")
    wait_until(lambda: checks(younger).get("keys", ("ok",))[0] == "failed", 60, "the broker's look at the key store")
    for kek in ("late", "doomed"):
        found = refusal(younger, f"CALL envelope.rotate_kek('{kek}')")
        assert "do not flush" in found.message_hint
        assert "the key does not exist in its store" in found.message_detail
    assert "3 were rewrapped" in found.message_detail
    assert values(younger) == ALL, "the broker's cache still has all keys"
    file = younger.backup()
    younger.done("keys-backup", "return", file, "--kek", "rescue", *younger.unlock)
    younger.db.sql("SELECT envelope.flush('nothing is in a cache only')")
    assert values(younger) == ALL
