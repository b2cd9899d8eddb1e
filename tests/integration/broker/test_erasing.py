"""The operation `erase`: from its entry in the ledger on, no operation gives the DEK to anybody."""

from __future__ import annotations

import base64
import json
import signal
import uuid

from tests.integration.broker.conftest import PATIENCE, POLICY, wait_until

SHRED = '\npath "kv/metadata/pg_envelope/*" { capabilities = ["delete"] }\n'
TOLD = {"label": "public.person", "reason": "ticket 7", "subject": None, "salt": None}


def dying(dek, **more):
    return {**{name: dek[name] for name in ("dek_id", "fingerprint", "kek", "store")}, "kek_version": 1, **more}


def erase(broker, database, *deks):
    return broker.ask("erase", database_uuid=database, deks=[dying(dek) for dek in deks], **TOLD)


def lines(directory):
    path = directory / "erasures.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_no_operation_gives_it_back(broker, directory):
    database, dek = broker.new_dek(1)
    other = broker.new_dek(2, database=database)[1]
    assert broker.code(database, dek) == "ok"
    epoch = broker.good("status")["epoch"]
    answer = erase(broker, database, dek)
    assert (answer["ok"], answer["epoch"] > epoch) == (True, True)
    for _ in range(2):
        derived = broker.derive(database, dek, other)["keys"]
        assert [one.get("error", {}).get("code", "ok") for one in derived] == ["key_destroyed", "ok"]
        plain = {name: dek[name] for name in ("dek_id", "wrapped", "fingerprint")}
        for op, more in {
            "sign": {"key": {**dek, "fields": []}, "statement": {}},
            "rewrap": {"kek": "default", "store": "catalog", "deks": [plain]},
            "keys_backup": {"deks": [{**dek, "fields": []}]},
        }.items():
            assert broker.ask(op, database_uuid=database, **more)["error"]["code"] == "key_destroyed", op
        made = broker.ask("generate", database_uuid=database, kek="default", store="catalog", dek_id=1)
        assert made["error"]["code"] == "store_conflict"
        broker.stop()
        broker.clients.clear()
        broker.start()
    assert [entry["n"] for entry in lines(directory)] == [1]


def test_the_same_id_of_another_database_or_clone_lives(broker):
    database, dek = broker.new_dek(1)
    other_database, other = broker.new_dek(1)
    erase(broker, database, dek)
    assert broker.code(other_database, other) == "ok"
    clone = {**other, "fingerprint": base64.b64encode(bytes(16)).decode()}
    assert broker.code(database, clone) == "unwrap_failed"


def test_asking_again_writes_no_second_entry(broker, directory):
    database, dek = broker.new_dek(1)
    first, again = erase(broker, database, dek), erase(broker, database, dek)
    assert first["deks"] == again["deks"]
    assert again["epoch"] > first["epoch"]
    assert len(lines(directory)) == 1


def test_what_a_move_left_in_the_store_goes_as_well(make_broker, own_bao):
    own_bao.api("POST", "sys/policies/acl/broker", policy=POLICY + SHRED)
    broker = make_broker(own_bao, kek={"other": {"kms": "main", "key": "pg-envelope-default"}}).ready()
    database, dek = broker.new_dek(1, store="vault")
    place = f"kv/metadata/pg_envelope/{database}/1"
    assert own_bao.request("GET", place).ok
    assert erase(broker, database, {**dek, "store": "catalog"})["deks"][0]["unchecked"] == []
    assert own_bao.request("GET", place).status_code == 404


def test_a_store_that_cannot_be_searched_is_named(make_broker, own_bao):
    broker = make_broker(own_bao).ready()
    database, dek = broker.new_dek(1, store="vault")
    answer = erase(broker, database, {**dek, "store": "catalog"})
    assert answer["deks"][0]["unchecked"] == ["main"]
    assert broker.code(database, dek) == "key_destroyed"


def test_a_key_that_is_on_its_way_does_not_arrive(make_broker, own_bao, directory):
    broker = make_broker(own_bao).ready()
    database, dek = broker.new_dek(1)
    broker.good("flush", reason="make it cold")
    own_bao.freeze()
    asking, erasing = broker.client(), broker.client()
    asking.send("derive", database_uuid=database, keys=[dek])
    wait_until(lambda: broker.metric("pg_envelope_requests_waiting") == 1)
    erasing.send("erase", database_uuid=database, deks=[dying(dek)], **TOLD)
    wait_until(lambda: lines(directory))
    own_bao.process.send_signal(signal.SIGCONT)
    assert asking.receive()["keys"][0]["error"]["code"] == "key_destroyed"
    assert erasing.receive()["ok"]
    assert broker.metric("pg_envelope_cache_keys") == 0


def test_it_does_not_start_on_a_ledger_that_was_changed(broker, directory):
    for number in (1, 2):
        database, dek = broker.new_dek(number)
        erase(broker, database, dek)
    broker.stop()
    path = directory / "erasures.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"ticket 7", b"ticket 8", 1))
    broker.launch()
    assert broker.process.wait(PATIENCE) == 2
    assert "line 1:" in broker.log_path.read_text()
    path.write_bytes(whole + b'{"torn":')
    broker.start()
    # The socket is there before the first event is written.
    assert wait_until(
        lambda: [event["bytes"] for event in broker.events() if event["event"] == "ledger_recovered"]
    ) == [8]
    assert path.read_bytes() == whole


def test_bad_requests(broker, directory):
    database, dek = broker.new_dek(1)
    for more in ({"subject": "00"}, {"subject": "0" * 64}, {"deks": []}, {"salt": "0" * 32}, {"reason": None}):
        body = {"database_uuid": database, "deks": [dying(dek)], **TOLD, **more}
        assert broker.ask("erase", **body)["error"]["code"] == "bad_request", more
    unknown = erase(broker, str(uuid.uuid4()), {**dek, "store": "vault", "kek": "no such kek"})
    assert unknown["error"]["code"] == "kek_unknown"
    assert lines(directory) == []


def test_prove_says_so_too(broker):
    database, dek = broker.new_dek(1)
    other = broker.new_dek(2, database=database)[1]
    erase(broker, database, dek)
    answer = broker.good("prove", database_uuid=database, deks=[dek, other])["deks"]
    assert [one.get("error", {}).get("code") for one in answer] == ["key_destroyed", None]
