"""What can no longer be read while broker and KMS are up: status() says so, and verify_keys() names each key."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.processes import folder, wait_until
from stack.stack import Stack
from tests.fix_stack import Database

from .fix_kms_life import READ, answers, failure
from .test_status import assert_all_ok, check

TRANSIT = "transit/keys/pg-envelope-default"
VERIFY = "SELECT dek_id, label, problem FROM envelope.verify_keys()"


@pytest.fixture
def both(people: Database) -> Database:
    """people, whose key is in store vault, and a named key in store catalog."""
    people.sql("SELECT envelope.create_key('api', store => 'catalog')")
    return people


def kv_path(db: Database, dek_id: int = 1) -> str:
    uuid = db.one("SELECT database_uuid FROM envelope_private.installation")
    return f"kv/metadata/pg_envelope/{uuid}/{dek_id}"


def test_all_of_them_open(both: Database) -> None:
    assert_all_ok(both)
    assert check(both, "keys") == ("ok", "2 tried, all open in the KMS", None)
    assert both.sql(VERIFY) == []


def test_an_entry_that_was_deleted_in_kv(breakable: Stack, both: Database) -> None:
    assert both.sql(READ) == [("a@b.c",)]
    path = kv_path(both).replace("metadata", "data")
    breakable.openbao.request("DELETE", path)
    state, detail, hint = check(both, "keys")
    assert (state, "verify_keys" in (hint or "")) == ("failed", True)
    assert detail == "1 of 2 tried do not open: 1 (public.person): the key does not exist in its store"
    assert both.sql(VERIFY) == [(1, "public.person", "the key does not exist in its store")]
    assert both.connect().execute(READ).fetchall() == [("a@b.c",)], "the cache is the last place that has it"
    breakable.openbao.request("PUT", path.replace("data", "undelete"), {"versions": [1]})
    assert_all_ok(both)


def test_a_wrap_that_was_altered(both: Database) -> None:
    both.sql("UPDATE envelope_private.dek SET wrapped = overlay(wrapped PLACING 'AAAA' FROM 20) WHERE wrapped <> ''")
    assert both.sql(VERIFY) == [(2, "api", "a wrapped DEK cannot be unwrapped")]
    assert "2 (api)" in check(both, "keys")[1]


def test_versions_below_the_kms_s_minimum(breakable: Stack, both: Database) -> None:
    old = both.one("SELECT kek_version FROM envelope.keys WHERE name = 'api'")
    breakable.openbao.request("POST", f"{TRANSIT}/rotate")
    breakable.openbao.request("POST", f"{TRANSIT}/config", {"min_decryption_version": old + 1})
    try:
        state, detail, hint = check(both, "versions of keks")
        assert (state, "min_decryption_version" in (hint or "")) == ("failed", True)
        assert f"2 of default version {old}" in detail
        assert check(both, "keys")[0] == "failed"
    finally:
        breakable.openbao.request("POST", f"{TRANSIT}/config", {"min_decryption_version": 1})
    both.sql("CALL envelope.rewrap('default')")
    assert_all_ok(both)


def test_a_kek_that_turned_deletable_is_seen_at_once(breakable: Stack, both: Database) -> None:
    """Also by a broker whose next look at the KMS is an hour away."""
    breakable.broker.configure({"broker": {"probe_seconds": 3600.0}})
    breakable.broker.restart()
    assert_all_ok(both)
    breakable.openbao.request("POST", f"{TRANSIT}/config", {"deletion_allowed": True})
    try:
        assert check(both, "kek default")[0] == "warning"
    finally:
        breakable.openbao.request("POST", f"{TRANSIT}/config", {"deletion_allowed": False})
    assert_all_ok(both)


def test_a_kms_that_is_down_is_no_lost_key(breakable: Stack, both: Database) -> None:
    breakable.openbao.kill()
    state, detail, _ = check(both, "keys")
    assert (state, "could not be tried: the KMS does not answer" in detail) == ("warning", True)
    assert check(both, "versions of keks")[0] == "ok"


@pytest.fixture
def small_disk(breakable: Stack) -> Iterator[Path]:
    """A file system of a megabyte, with the broker's audit log on it."""
    place = breakable.broker.directory / "small"
    folder(place, 0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False).returncode:
        pytest.skip("may not mount")
    shutil.chown(place, breakable.broker.account.uid)
    log = {"audit_log": str(place / "audit.log"), "audit_repeats_seconds": 0.0, "probe_seconds": 0.2}
    breakable.broker.configure({"broker": log})
    breakable.broker.restart()
    yield place
    breakable.broker.stop()
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_under_the_audit_log(small_disk: Path, both: Database) -> None:
    state, detail, hint = check(both, "audit log")
    assert (state, "MB are free" in detail) == ("warning", True)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(2 << 20))
    wait_until(lambda: not answers(both.connect()), 60, "the end of the log's last block")
    assert failure(both.connect(), READ)[1] == "pg_envelope: the broker cannot write its audit log"
    state, detail, hint = check(both, "audit log")
    assert (state, detail) == ("failed", "cannot be written: No space left on device")
    assert "audit_log" in (hint or "")
    filler.unlink()
    wait_until(lambda: check(both, "audit log")[0] == "warning", 60, "the log's recovery")
    assert both.connect().execute(READ).fetchall() == [("a@b.c",)]
    events = [json.loads(line) for line in (small_disk / "audit.log").read_text().splitlines() if line.endswith("}")]
    assert "audit_recovered" in [event["event"] for event in events]


def test_more_keys_than_one_request_takes(both: Database) -> None:
    both.sql("SELECT count(envelope.create_key('k' || n, store => 'catalog')) FROM generate_series(1, 250) n")
    assert both.sql(VERIFY) == []
    both.sql("UPDATE envelope_private.dek SET wrapped = 'vault:v1:AAAA' WHERE dek_id % 50 = 3")
    assert [row[0] for row in both.sql(VERIFY)] == list(range(3, 253, 50))
