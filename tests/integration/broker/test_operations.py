"""Each operation against a real OpenBao: what comes back, what is written where, and what is refused."""

from __future__ import annotations

import base64
import threading
import time
import uuid

import pytest

from pg_envelope import derivation


def test_status_names_what_runs(broker):
    found = broker.good("status")
    assert found["protocol"] == 1
    assert found["environment"] == "default"
    made_at = found["keks"]["default"].pop("made_at")
    assert 0 < made_at <= time.time()
    assert found["keks"]["default"] == {
        "provider": "vault",
        "state": "ok",
        "detail": None,
        "hint": None,
        "store": "vault",
        "deletable": False,
        "version": 1,
        "oldest": 1,
        "tls": "no TLS, on loopback",
        "databases": [],
    }
    assert found["audit"] is None


@pytest.mark.parametrize("store", ["catalog", "vault"])
def test_a_field_key_is_what_the_format_says(broker, bao, store):
    database, dek = broker.new_dek(7, store)
    answer = broker.derive(database, dek)
    wrapped = dek["wrapped"] or bao.api("GET", f"kv/data/pg_envelope/{database}/7")["data"]["wrapped"]
    context = base64.b64encode(f"pg_envelope/1 default {database} 7".encode()).decode()
    opened = bao.api("POST", "transit/decrypt/pg-envelope-default", ciphertext=wrapped, context=context)
    plain = base64.b64decode(opened["plaintext"])
    field = dek["fields"][0]
    expected = derivation.field_key(
        plain, base64.b64decode(field["salt"]), uuid.UUID(field["field_uuid"]), field["key_id"]
    )
    assert base64.b64decode(answer["keys"][0]["key"]) == expected
    assert base64.b64decode(dek["fingerprint"]) == derivation.fingerprint(plain, 7)


def test_a_kv_entry_holds_wrap_kek_and_fingerprint(broker, bao):
    database, dek = broker.new_dek(3, "vault")
    held = bao.api("GET", f"kv/data/pg_envelope/{database}/3")["data"]
    assert dek["wrapped"] is None
    assert held["kek"] == "default"
    assert held["fingerprint"] == base64.b64decode(dek["fingerprint"]).hex()
    assert held["wrapped"].startswith("vault:v1:")


def test_a_kv_entry_is_never_overwritten_by_generate(broker, bao):
    database, _ = broker.new_dek(3, "vault")
    before = bao.api("GET", f"kv/data/pg_envelope/{database}/3")
    answer = broker.ask("generate", database_uuid=database, kek="default", store="vault", dek_id=3)
    assert answer["error"]["code"] == "store_conflict"
    assert bao.api("GET", f"kv/data/pg_envelope/{database}/3") == before


def test_the_first_derive_after_generate_asks_no_kms(broker, bao):
    database, dek = broker.new_dek()
    before = len(bao.requests_to("transit/decrypt/pg-envelope-default"))
    assert broker.code(database, dek) == "ok"
    assert len(bao.requests_to("transit/decrypt/pg-envelope-default")) == before


def test_64_backends_that_want_one_cold_dek_cost_one_decrypt(broker, bao):
    database, dek = broker.new_dek()
    broker.good("flush", reason="make it cold")
    before = len(bao.requests_to("transit/decrypt/pg-envelope-default"))
    clients = [broker.client() for _ in range(64)]
    barrier, found = threading.Barrier(64), []

    def ask(client):
        barrier.wait()
        found.append(client.good("derive", database_uuid=database, keys=[dek])["keys"][0]["key"])

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 64
    assert len(set(found)) == 1
    assert len(bao.requests_to("transit/decrypt/pg-envelope-default")) == before + 1


def test_450_cold_deks_cost_three_decrypts(broker, bao):
    database = str(uuid.uuid4())
    contexts = {i: base64.b64encode(f"pg_envelope/1 default {database} {i}".encode()).decode() for i in range(1, 451)}
    plain = base64.b64encode(bytes(32)).decode()
    items = [{"plaintext": plain, "context": context} for context in contexts.values()]
    wraps = []
    for start in range(0, 450, 225):
        answer = bao.api("POST", "transit/encrypt/pg-envelope-default", batch_input=items[start : start + 225])
        wraps += [result["ciphertext"] for result in answer["batch_results"]]
    _, sample = broker.new_dek()
    deks = [
        {
            **sample,
            "dek_id": i,
            "wrapped": wrapped,
            "fingerprint": base64.b64encode(derivation.fingerprint(bytes(32), i)).decode(),
        }
        for i, wrapped in zip(contexts, wraps, strict=True)
    ]
    before = len(bao.requests_to("transit/decrypt/pg-envelope-default"))
    answer = broker.derive(database, *deks)
    assert [("key" in key) for key in answer["keys"]] == [True] * 450
    assert len(bao.requests_to("transit/decrypt/pg-envelope-default")) == before + 3


def test_one_bad_dek_does_not_spoil_the_others(broker):
    database, good = broker.new_dek(1)
    _, bad = broker.new_dek(2)
    broker.good("flush", reason="make them cold")
    answer = broker.derive(database, good, bad)
    assert "key" in answer["keys"][0]
    assert answer["keys"][1]["error"]["code"] == "unwrap_failed"


def test_a_wrap_opens_only_where_it_was_made(broker, make_broker, bao):
    database, dek = broker.new_dek(1)
    assert broker.code(database, {**dek, "dek_id": 2}) == "unwrap_failed"
    assert broker.code(str(uuid.uuid4()), dek) == "unwrap_failed"
    broker.stop()
    other = make_broker(bao, broker={"environment": "staging"}).ready()
    assert other.code(database, dek) == "unwrap_failed"


@pytest.mark.parametrize("cold", [False, True])
def test_a_wrong_fingerprint_is_refused(broker, cold):
    database, dek = broker.new_dek()
    if cold:
        broker.good("flush", reason="make it cold")
    wrong = {**dek, "fingerprint": base64.b64encode(bytes(16)).decode()}
    assert broker.code(database, wrong) == "unwrap_failed"
    assert broker.code(database, dek) == "ok"


def test_unknown_kek_and_store(broker):
    database, dek = broker.new_dek()
    assert broker.code(database, {**dek, "kek": "nope"}) == "kek_unknown"
    assert broker.code(database, {**dek, "store": "nope"}) == "store_unknown"
    answer = broker.ask("generate", database_uuid=database, kek="nope", store="catalog", dek_id=1)
    assert answer["error"]["code"] == "kek_unknown"


def test_a_key_deleted_from_the_store_is_not_found(broker, bao):
    database, dek = broker.new_dek(1, "vault")
    bao.api("DELETE", f"kv/metadata/pg_envelope/{database}/1")
    broker.good("flush", reason="shred")
    assert broker.code(database, dek) == "key_not_found"


def test_a_destroyed_version_is_a_destroyed_key(broker, bao):
    database, dek = broker.new_dek(1, "vault")
    bao.api("PUT", f"kv/destroy/pg_envelope/{database}/1", versions=[1])
    broker.good("flush", reason="shred")
    assert broker.code(database, dek) == "key_destroyed"


@pytest.mark.parametrize("store", ["catalog", "vault"])
def test_rotate_and_rewrap(make_broker, bao, store):
    bao.new_kek(f"rotating-{store}")
    broker = make_broker(bao, kek={"other": {"kms": "main", "key": f"rotating-{store}"}}).ready()
    database, dek = broker.new_dek(1, store, kek="other")
    key = broker.derive(database, dek)["keys"][0]["key"]
    assert broker.good("rotate_kek", kek="other")["kek_version"] == 2
    old = {name: dek[name] for name in ("dek_id", "wrapped", "fingerprint")}
    stranger = {**old, "dek_id": 2}
    answer = broker.good("rewrap", database_uuid=database, kek="other", store=store, deks=[old, stranger])
    moved, failed = answer["deks"]
    assert moved["kek_version"] == 2
    assert failed["error"]["code"] == ("unwrap_failed" if store == "catalog" else "key_not_found")
    bao.api("POST", f"transit/keys/rotating-{store}/config", min_decryption_version=2)
    broker.good("flush", reason="only the new wrap may open")
    assert broker.derive(database, {**dek, "wrapped": moved["wrapped"]})["keys"][0]["key"] == key


def test_rewrap_refuses_a_wrong_fingerprint_and_leaves_the_store_alone(make_broker, bao):
    bao.new_kek("kept")
    broker = make_broker(bao, kek={"other": {"kms": "main", "key": "kept"}}).ready()
    database, _ = broker.new_dek(1, "vault", kek="other")
    broker.good("rotate_kek", kek="other")
    wrong = {"dek_id": 1, "wrapped": None, "fingerprint": base64.b64encode(bytes(16)).decode()}
    answer = broker.good("rewrap", database_uuid=database, kek="other", store="vault", deks=[wrong])
    assert answer["deks"][0]["error"]["code"] == "unwrap_failed"
    assert bao.api("GET", f"kv/data/pg_envelope/{database}/1")["metadata"]["version"] == 1


def test_after_a_rewrap_the_new_wrap_is_at_hand(broker, bao):
    database, dek = broker.new_dek()
    old = {name: dek[name] for name in ("dek_id", "wrapped", "fingerprint")}
    new = broker.good("rewrap", database_uuid=database, kek="default", store="catalog", deks=[old])["deks"][0][
        "wrapped"
    ]
    before = len(bao.requests_to("transit/decrypt/pg-envelope-default"))
    assert broker.code(database, {**dek, "wrapped": new}) == "ok"
    assert len(bao.requests_to("transit/decrypt/pg-envelope-default")) == before


def test_flush_bumps_the_epoch_and_empties_the_cache(broker, bao):
    database, dek = broker.new_dek()
    epoch = broker.good("status")["epoch"]
    before = len(bao.requests_to("transit/decrypt/pg-envelope-default"))
    assert broker.good("flush", reason="test")["epoch"] == epoch + 1
    assert broker.epoch_path.read_bytes() == b"pgenvep1" + (epoch + 1).to_bytes(8, "big")
    answer = broker.derive(database, dek)
    assert answer["epoch"] == epoch + 1
    assert len(bao.requests_to("transit/decrypt/pg-envelope-default")) == before + 1


@pytest.mark.parametrize("options", [{"derived": False}, {"type": "chacha20-poly1305"}])
def test_a_transit_key_that_does_not_bind_is_refused(make_broker, bao, options):
    name = bao.new_kek(f"unfit-{len(str(options))}", **options)
    broker = make_broker(bao, kek={"other": {"kms": "main", "key": name}}).start()
    answer = broker.ask("generate", database_uuid=str(uuid.uuid4()), kek="other", store="catalog", dek_id=1)
    assert answer["error"]["code"] == "kek_unknown"


def test_a_deletable_transit_key_is_reported(make_broker, bao, directory):
    bao.new_kek("deletable")
    bao.api("POST", "transit/keys/deletable/config", deletion_allowed=True)
    broker = make_broker(bao, kek={"other": {"kms": "main", "key": "deletable"}}).ready()
    found = broker.good("status")["keks"]["other"]
    assert (found["state"], found["deletable"]) == ("degraded", True)
    assert "deletion_allowed" in found["detail"]


def test_audit_tells_who_and_what_but_no_key(broker):
    database, dek = broker.new_dek(5)
    answer = broker.derive(database, dek)
    events = [event for event in broker.events() if event.get("op") == "derive"]
    assert events[-1]["who"]["role"] == "r"
    assert events[-1]["labels"] == ["public.customer.email"]
    assert (events[-1]["key_ids"], events[-1]["dek_ids"]) == ([5], [5])
    assert (events[-1]["outcome"], events[-1]["count"], events[-1]["cached"]) == ("ok", 1, True)
    text = broker.audit_path.read_text() + broker.log_path.read_text()
    for secret in (answer["keys"][0]["key"], dek["wrapped"], dek["fingerprint"]):
        assert secret not in text


def test_metrics_and_health(broker):
    database, dek = broker.new_dek()
    broker.derive(database, dek)
    assert broker.metric('pg_envelope_requests_total{op="derive",outcome="ok"}') == 1
    assert broker.metric("pg_envelope_cache_hits_total") == 1
    assert broker.metric("pg_envelope_cache_keys") == 1
    assert broker.metric('pg_envelope_kms_up{kms="main"}') == 1
    assert 0 < broker.metric('pg_envelope_kms_token_ttl_seconds{kms="main"}') <= 3600
    assert broker.metric("pg_envelope_epoch") == broker.good("status")["epoch"]
    assert broker.page("/healthz") == "kek default ok\n"


def test_prove_asks_the_kms_and_leaves_the_cache(broker, bao):
    database, good = broker.new_dek(1)
    _, gone = broker.new_dek(2, "vault", database=database)
    bao.api("DELETE", f"kv/data/pg_envelope/{database}/2")
    bad = {**good, "dek_id": 3}
    before = len(bao.requests_to("transit/decrypt/pg-envelope-default"))
    answer = broker.good("prove", database_uuid=database, deks=[gone, good, bad, {**good, "dek_id": 4, "kek": "no"}])
    assert [one.get("error", {}).get("code") for one in answer["deks"]] == [
        "key_not_found",
        None,
        "unwrap_failed",
        "kek_unknown",
    ]
    assert "key" not in answer["deks"][1]
    assert len(bao.requests_to("transit/decrypt/pg-envelope-default")) == before + 1
    assert broker.code(database, gone) == "ok", "the cache still has it"
