"""The broker tells a canary by its salt alone, and gives its key to nobody before the alarm is in the ledger."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

import pytest

from pg_envelope import reads_check

METRIC = "pg_envelope_canary_reads_total"


def alarms(broker) -> list[dict[str, Any]]:
    ledger = broker.directory / "reads.jsonl"
    return [entry for _, entry in reads_check.lines(ledger) if entry["event"] == "canary"] if ledger.exists() else []


@pytest.fixture
def planted(broker) -> tuple[str, Any, Any]:
    """A database, a DEK with an ordinary field, and the same DEK with a canary."""
    database, dek = broker.new_dek()
    ref = {name: value for name, value in dek.items() if name != "fields"}
    one = {"key_id": 9, "field_uuid": str(uuid.uuid4()), "label": "public.t.c"}
    answer = broker.good("plant", database_uuid=database, key=ref, fields=[one])
    canary = {**ref, "fields": [{**one, "salt": answer["salt"]}]}
    assert (alarms(broker), broker.metric(METRIC)) == ([], 0)
    assert broker.derive(database, canary)["keys"] == answer["keys"]
    return database, dek, canary


def test_each_request_is_an_alarm(broker, planted) -> None:
    database, dek, canary = planted
    assert broker.derive(database, dek)["ttl"] > 0
    assert broker.derive(database, canary)["ttl"] == 0
    assert broker.derive(database, dek, canary)["ttl"] == 0
    assert len(alarms(broker)) == broker.metric(METRIC) == 3
    last = alarms(broker)[-1]
    assert last["peer"]["uid"] == os.getuid()
    assert (last["database_uuid"], last["columns"], last["key_ids"]) == (database, ["public.t.c"], [9])
    assert [event["canaries"] for event in broker.events() if "canaries" in event] == [[9], [9]], (
        "equal ones are counted"
    )


def test_the_line_is_on_the_disk_before_the_key_leaves(broker, planted) -> None:
    database, _, canary = planted
    assert "key" in broker.derive(database, canary)["keys"][0]
    broker.process.kill()
    broker.process.wait()
    assert len(alarms(broker)) == 2


def test_what_is_read_ahead_is_kept_back(broker, planted) -> None:
    database, dek, canary = planted
    answer = broker.derive(database, dek, canary, ahead=1)
    assert [one.get("error", {}).get("code") for one in answer["keys"]] == [None, "key_not_found"]
    assert answer["ttl"] > 0
    for many in (1, 2, 1 << 31):
        assert "key" not in broker.derive(database, canary, ahead=many)["keys"][0]
    assert len(alarms(broker)) == 1


def test_no_other_operation_is_an_alarm(broker, planted) -> None:
    database, _, canary = planted
    ref = {name: value for name, value in canary.items() if name != "fields"}
    broker.good("prove", database_uuid=database, deks=[ref])
    wrapped = {name: ref[name] for name in ("dek_id", "wrapped", "fingerprint")}
    broker.good("rewrap", database_uuid=database, kek="default", store="catalog", deks=[wrapped])
    broker.good("sign", database_uuid=database, key=canary, statement={"a": 1})
    assert len(alarms(broker)) == 1


def test_no_key_without_its_line(broker, planted) -> None:
    """A ledger that cannot be written keeps canaries closed, and other keys open."""
    database, dek, canary = planted
    broker.stop()
    ledger = broker.directory / "reads.jsonl"
    ledger.write_text(ledger.read_text() + json.dumps({"no": "event"}) + "\n")
    broker.start()
    assert broker.derive(database, canary)["ok"] is False
    assert broker.code(database, dek) == "ok"


def test_another_salt_is_none(broker, planted) -> None:
    """A mark that was altered gives another key, which opens nothing."""
    database, _, canary = planted
    (field,) = canary["fields"]
    key = broker.derive(database, canary)["keys"][0]["key"]
    altered = {**canary, "fields": [{**field, "salt": field["salt"][:-4] + "AAA="}]}
    answer = broker.derive(database, altered)
    assert answer["keys"][0]["key"] != key
    assert len(alarms(broker)) == 2
