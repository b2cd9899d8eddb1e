"""A broker process on providers that plain configuration reaches here, and DEKs that move between them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import uuid

import pytest

from tests.integration.broker.conftest import PATIENCE, private

SECRETS = {"TEST_BASE": "b" * 20 + "0123456789ab", "TEST_PURPOSE_LATER": "p" * 20 + "0123456789ab"}


@pytest.fixture
def settings(request, directory, monkeypatch):
    """Makes the [kms.NAME] and the key of a world's first KEK."""

    def make(name):
        world = request.getfixturevalue(f"{name}_world")
        found = {
            key: str(value) if not isinstance(value, int) else value for key, value in vars(world.settings).items()
        }
        found.pop("auth", None)
        return {"provider": name, **found}, world.key

    return make


@pytest.mark.parametrize("name", ["keyring", "aws", "pkcs11", "kmip"])
def test_a_broker_on_each_provider(make_broker, settings, name):
    kms, key = settings(name)
    broker = make_broker(None, kms=kms, kek={"default": {"kms": "main", "key": key}}).ready()
    database, dek = broker.new_dek(3)
    found = broker.derive(database, dek)["keys"][0]["key"]
    status = broker.good("status")["keks"]["default"]
    assert (status["provider"], status["store"]) == (name, "catalog")
    version = broker.good("rotate_kek", kek="default")["kek_version"]
    old = {member: dek[member] for member in ("dek_id", "wrapped", "fingerprint")}
    (moved,) = broker.good("rewrap", database_uuid=database, kek="default", store="catalog", deks=[old])["deks"]
    assert moved["kek_version"] == version
    broker.good("flush", reason="make it cold")
    assert broker.derive(database, {**dek, "wrapped": moved["wrapped"]})["keys"][0]["key"] == found
    assert broker.code(str(uuid.uuid4()), dek) == "unwrap_failed"


def secret_kms():
    return {"provider": "secrets", "base_secret": "TEST_BASE", "purpose_secret": "TEST_PURPOSE"}


def plain(dek):
    return {member: dek[member] for member in ("dek_id", "wrapped", "fingerprint")}


@pytest.fixture
def movable(make_broker, bao, settings, monkeypatch):
    """A broker with KEKs in OpenBao (two), AWS, the HSM's token and two secrets."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    aws, aws_key = settings("aws")
    policy = 'path "transit/*" { capabilities = ["read", "update"] }\n'
    policy += 'path "kv/data/pg_envelope/*" { capabilities = ["create", "read", "update"] }'
    bao.api("POST", "sys/policies/acl/moving", policy=policy)
    keks = {
        "second": {"kms": "main", "key": bao.new_kek(f"moving-{uuid.uuid4().hex[:8]}")},
        "cloud": {"kms": "aws", "key": aws_key},
        "secret": {"kms": "secret", "key": "later"},
    }
    more = {"aws": aws, "secret": secret_kms()}
    return lambda auth: make_broker(bao, auth, more=more, kek=keks).ready()


@pytest.fixture
def broker(movable, bao, directory):
    return movable(bao.role(directory, "moving"))


def move(broker, database, dek, kek, store, **source):
    return broker.good("rewrap", database_uuid=database, kek=kek, store=store, deks=[plain(dek)], **source)["deks"][0]


def test_a_dek_moves_from_kms_to_kms_and_stays_the_same(broker):
    database, dek = broker.new_dek(1, "vault")
    key = broker.derive(database, dek)["keys"][0]["key"]
    for kek, store in (("cloud", "catalog"), ("secret", "catalog"), ("second", "catalog"), ("cloud", "catalog")):
        moved = move(broker, database, dek, kek, store, from_kek=dek["kek"], from_store=dek["store"])
        dek = {**dek, "kek": kek, "store": store, "wrapped": moved["wrapped"]}
        assert moved["kek_version"] >= 1
        broker.good("flush", reason="make it cold")
        assert broker.derive(database, dek)["keys"][0]["key"] == key
    assert next(event["from_kek"] for event in broker.events() if event.get("op") == "rewrap") == "default"


def test_a_moved_dek_that_is_in_use_stays_at_hand(broker, bao):
    database, dek = broker.new_dek(1, "catalog")
    moved = move(broker, database, dek, "secret", "catalog", from_kek="default")
    before = broker.metric('pg_envelope_kms_requests_total{kms="secret",op="unwrap",outcome="ok"}')
    assert broker.code(database, {**dek, "kek": "secret", "wrapped": moved["wrapped"]}) == "ok"
    assert broker.metric('pg_envelope_kms_requests_total{kms="secret",op="unwrap",outcome="ok"}') == before


def test_within_one_key_store_the_entry_is_replaced_and_a_repeat_finds_it(broker, bao):
    database, dek = broker.new_dek(1, "vault")
    key = broker.derive(database, dek)["keys"][0]["key"]
    for _ in range(2):
        moved = move(broker, database, dek, "second", "vault", from_kek="default")
        assert (moved["wrapped"], moved["kek_version"]) == (None, 1)
    entry = bao.api("GET", f"kv/data/pg_envelope/{database}/1")
    assert (entry["metadata"]["version"], entry["data"]["kek"]) == (2, "second")
    broker.good("flush", reason="make it cold")
    assert broker.derive(database, {**dek, "kek": "second"})["keys"][0]["key"] == key


def test_into_the_key_store_nothing_foreign_is_overwritten(broker, bao):
    database, dek = broker.new_dek(1, "catalog", kek="cloud")
    broker.good("generate", database_uuid=database, kek="default", store="vault", dek_id=1)
    before = bao.api("GET", f"kv/data/pg_envelope/{database}/1")
    moved = move(broker, database, dek, "default", "vault", from_kek="cloud", from_store="catalog")
    assert moved["error"]["code"] == "store_conflict"
    assert bao.api("GET", f"kv/data/pg_envelope/{database}/1") == before


def test_a_move_refuses_a_wrong_fingerprint_a_wrong_place_and_an_unknown_kek(broker):
    database, dek = broker.new_dek(1, "catalog")
    wrong = {**dek, "fingerprint": base64.b64encode(bytes(16)).decode()}
    assert move(broker, database, wrong, "secret", "catalog", from_kek="default")["error"]["code"] == "unwrap_failed"
    other = str(uuid.uuid4())
    assert move(broker, other, dek, "secret", "catalog", from_kek="default")["error"]["code"] == "unwrap_failed"
    missing = move(
        broker, database, {**dek, "wrapped": None}, "secret", "catalog", from_kek="default", from_store="vault"
    )
    assert missing["error"]["code"] == "key_not_found"
    answer = broker.ask("rewrap", database_uuid=database, kek="secret", store="catalog", deks=[], from_kek="nope")
    assert answer["error"]["code"] == "kek_unknown"


def test_secrets_that_are_not_fit_stop_the_start(make_broker, directory, monkeypatch):
    broker = make_broker(None, kms=secret_kms(), kek={"default": {"kms": "main", "key": "later"}})
    monkeypatch.setenv("TEST_BASE", SECRETS["TEST_BASE"])
    broker.launch()
    assert broker.process.wait(PATIENCE) == 2
    assert "TEST_PURPOSE_LATER is not set" in broker.log_path.read_text()
    command = [sys.executable, "-m", "pg_envelope.broker", "--config", str(broker.config), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert found.returncode == 1
    assert "TEST_PURPOSE_LATER is not set" in found.stdout
    assert SECRETS["TEST_BASE"] not in found.stdout + broker.log_path.read_text()


def test_a_broker_with_vault_only_loads_no_other_sdk(directory):
    config = private(
        directory / "broker.toml",
        '[kms.main]\nprovider = "vault"\naddress = "https://kms:8200"\n'
        f'auth = {{ method = "token", token_file = "{directory}/token" }}\n[kek.default]\nkms = "main"\nkey = "k"\n',
    )
    code = (
        "import sys; from pathlib import Path; from pg_envelope.broker import app, check\n"
        f"check.check(Path({str(config)!r}))\n"
        "assert 'hvac' in sys.modules\n"
        "sdks = {'boto3', 'botocore', 'pkcs11', 'azure', 'google', 'kmip', 'sqlalchemy'}\n"
        "print(sorted(sdks & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"
