"""What the broker does when its KMS is down, sealed, frozen, or says no."""

from __future__ import annotations

import http.server
import os
import threading
import time

from tests.integration.broker.conftest import PATIENCE_MS, wait_until

SHORT = {"ttl_seconds": 0.2, "grace_seconds": 3600}


def past_ttl():
    """Longer than ttl_seconds of SHORT."""
    time.sleep(0.3)


def test_stopped_kms_served_from_the_cache_until_it_is_back(make_broker, production_bao):
    broker = make_broker(production_bao, cache=SHORT).ready()
    database, dek = broker.new_dek()
    key = broker.derive(database, dek)["keys"][0]["key"]
    production_bao.stop()
    past_ttl()
    answer = broker.derive(database, dek)
    assert answer["keys"][0]["key"] == key
    assert 0 < answer["ttl"] <= SHORT["grace_seconds"]
    wait_until(lambda: broker.state() == "degraded")
    production_bao.start()
    # Nobody asks for a key meanwhile.
    wait_until(lambda: "grace_over" in [event["event"] for event in broker.events()])
    told = [event for event in broker.events() if event["event"].startswith("grace_")]
    assert [(event["event"], event.get("reason")) for event in told] == [
        ("grace_entered", None),
        ("grace_over", "kms_is_back"),
    ]


def test_stopped_kms_after_the_grace(make_broker, own_bao):
    broker = make_broker(own_bao, cache={"ttl_seconds": 0.2, "grace_seconds": 0.3}).ready()
    database, dek = broker.new_dek()
    own_bao.stop()
    wait_until(lambda: broker.code(database, dek) == "kms_unavailable")
    wait_until(lambda: broker.state() == "failed")


def test_sealed_kms(make_broker, own_bao):
    broker = make_broker(own_bao, cache=SHORT).ready()
    database, dek = broker.new_dek(1)
    _, cold = broker.new_dek(2, database=database, store="vault")
    own_bao.api("PUT", "sys/seal")
    past_ttl()
    assert broker.code(database, dek) == "ok"
    assert broker.code(database, {**cold, "dek_id": 3}) == "kms_sealed"
    wait_until(lambda: broker.state() == "degraded")
    assert broker.metric('pg_envelope_kms_up{kms="main"}') == 0
    assert broker.metric('pg_envelope_grace_remaining_seconds{kms="main"}') > 0
    assert broker.metric("pg_envelope_cache_stale_total") >= 1


def test_a_frozen_kms_costs_no_more_than_the_deadline(make_broker, own_bao):
    # The client's own patience would end long before that of the broker.
    long = 10 * PATIENCE_MS
    broker = make_broker(own_bao, cache=SHORT, kms={"timeout_ms": long}, broker={"deadline_ms": long}).ready()
    database, dek = broker.new_dek(1)
    past_ttl()
    own_bao.freeze()
    assert broker.code(database, {**dek, "dek_id": 2}, deadline_ms=300) == "deadline"
    assert broker.code(database, dek, deadline_ms=300) == "ok"


def test_the_breaker_spares_requests_the_timeout_of_a_frozen_kms(make_broker, own_bao):
    broker = make_broker(own_bao, kms={"timeout_ms": 3000}).ready()
    database, dek = broker.new_dek()
    own_bao.freeze()
    wait_until(lambda: broker.state() != "ok")
    for number in range(20):
        assert broker.code(database, {**dek, "dek_id": 100 + number}) == "kms_unavailable"
    tried = broker.metric('pg_envelope_kms_requests_total{kms="main",op="unwrap",outcome="kms_unavailable"}')
    assert tried < 20


def test_status_answers_while_the_kms_hangs(make_broker, own_bao):
    broker = make_broker(own_bao)
    own_bao.freeze()
    broker.start()
    assert broker.state() == "degraded"


def test_a_revoked_token_is_replaced_by_a_new_login(make_broker, own_bao):
    broker = make_broker(own_bao).ready()
    database, dek = broker.new_dek()
    broker.good("flush", reason="make it cold")
    own_bao.revoke_logins()
    assert broker.code(database, dek) == "ok"
    assert len(own_bao.requests_to("auth/approle/login")) >= 2


def test_a_wrong_secret_id_is_denied_without_hammering_the_login(make_broker, own_bao, directory):
    auth = own_bao.role(directory)
    secret_id = directory / "secret_id"
    right = secret_id.read_text()
    secret_id.write_text("wrong-secret-id\n")
    broker = make_broker(own_bao, auth).start()
    wait_until(lambda: "login_failed" in [event["event"] for event in broker.events()])
    for _ in range(10):
        answer = broker.ask(
            "generate", database_uuid=str(os.getpid()).zfill(32), kek="default", store="catalog", dek_id=1
        )
        assert answer["error"]["code"] == "kms_denied"
    assert len(own_bao.requests_to("auth/approle/login")) <= 2
    assert broker.state() == "failed"
    secret_id.write_text(right)
    wait_until(lambda: broker.state() == "ok")
    assert "wrong-secret-id" not in broker.log_path.read_text() + broker.audit_path.read_text()


def test_a_policy_that_denies_drops_the_key_at_once(make_broker, own_bao):
    broker = make_broker(own_bao, cache=SHORT).ready()
    database, dek = broker.new_dek()
    own_bao.api("POST", "sys/policies/acl/broker", policy='path "transit/keys/+" { capabilities = ["read"] }')
    past_ttl()
    assert broker.code(database, dek) == "kms_denied"
    own_bao.stop()
    assert broker.code(database, dek) == "kms_unavailable"


def test_a_deleted_entry_is_not_found_once_its_cached_dek_is_past_its_ttl(make_broker, bao):
    broker = make_broker(bao, cache=SHORT).ready()
    database, dek = broker.new_dek(1, "vault")
    bao.api("DELETE", f"kv/data/pg_envelope/{database}/1")
    past_ttl()
    assert broker.code(database, dek) == "key_not_found"


def test_a_missing_kv_mount_is_not_a_missing_key(make_broker, own_bao):
    broker = make_broker(own_bao, cache={"ttl_seconds": 60}).ready()
    database, dek = broker.new_dek(1, "vault")
    broker.good("flush", reason="make it cold")
    own_bao.api("DELETE", "sys/mounts/kv")
    assert broker.code(database, dek) == "kms_invalid"


def test_a_token_is_renewed_before_it_ends(make_broker, own_bao, directory):
    broker = make_broker(own_bao, own_bao.role(directory, ttl="2s")).ready()
    wait_until(lambda: len(own_bao.requests_to("auth/token/renew-self")) >= 2)
    database, dek = broker.new_dek()
    assert broker.code(database, dek) == "ok"
    assert "login_failed" not in [event["event"] for event in broker.events()]


def test_a_token_file(make_broker, own_bao, directory):
    token = own_bao.request("POST", "auth/token/create", {"policies": ["broker"], "ttl": "1h"}).json()["auth"][
        "client_token"
    ]
    path = directory / "token"
    path.touch(mode=0o600)
    path.write_text(token)
    broker = make_broker(own_bao, {"method": "token", "token_file": str(path)}).ready()
    database, dek = broker.new_dek()
    own_bao.api("POST", "auth/token/revoke", token=token)
    broker.good("flush", reason="make it cold")
    assert broker.code(database, dek) == "kms_denied"


def test_production_server_starts_late_seals_and_restarts(make_broker, production_bao, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    broker = make_broker(production_bao)
    production_bao.stop()
    broker.start()
    wait_until(lambda: broker.state() == "failed")
    production_bao.start()
    wait_until(lambda: broker.state() == "ok")
    database, dek = broker.new_dek(1, "vault")
    key = broker.derive(database, dek)["keys"][0]["key"]
    broker.good("flush", reason="make it cold")
    production_bao.api("PUT", "sys/seal")
    # While it is sealing, it may answer with an error of its own.
    wait_until(lambda: broker.code(database, dek) == "kms_sealed")
    production_bao.unseal()
    wait_until(lambda: broker.state() == "ok")
    assert broker.derive(database, dek)["keys"][0]["key"] == key


def test_a_server_under_another_ca_is_refused(make_broker, production_bao):
    before = production_bao.requests_to("auth/approle/login")
    broker = make_broker(production_bao, kms={"ca_file": "/etc/ssl/certs/ca-certificates.crt"}).start()
    wait_until(lambda: "TLS failed" in (broker.good("status")["keks"]["default"]["detail"] or ""))
    assert production_bao.requests_to("auth/approle/login") == before


def test_a_redirect_does_not_take_the_token_elsewhere(make_broker, own_bao, directory):
    seen = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"{own_bao.address}{self.path}")
            self.end_headers()

        def log_message(self, *_):
            pass

    token = directory / "token"
    token.touch(mode=0o600)
    token.write_text(own_bao.token)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as redirecting:
        threading.Thread(target=redirecting.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{redirecting.server_port}"
        auth = {"method": "token", "token_file": str(token)}
        broker = make_broker(own_bao, auth, kms={"address": address}).start()
        try:
            wait_until(lambda: seen)
            wait_until(lambda: "not that of Vault" in (broker.good("status")["keks"]["default"]["detail"] or ""))
        finally:
            redirecting.shutdown()
    assert own_bao.requests_to("auth/token/lookup-self") == []
