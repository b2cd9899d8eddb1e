"""The configuration file: defaults, and what it refuses."""

from __future__ import annotations

import copy
import os
import re
import tomllib
from pathlib import Path

import pytest

from pg_envelope import errors
from pg_envelope.broker.settings import config
from pg_envelope.broker.settings import kms as kms_settings
from pg_envelope.broker.settings.door import DoorSettings

EXAMPLE = Path(__file__).parents[3] / "docs" / "broker.example.toml"
GOOD = {
    "kms": {
        "main": {"provider": "vault", "address": "https://kms:8200", "auth": {"method": "token", "token_file": "/t"}}
    },
    "kek": {"default": {"kms": "main", "key": "k"}},
}


def changed(path, value):
    """GOOD with one member set; None takes it away."""
    tables = copy.deepcopy(GOOD)
    *parents, last = path.split("/")
    place = tables
    for name in parents:
        place = place.setdefault(name, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return tables


def test_defaults():
    found = config.parse(copy.deepcopy(GOOD))
    assert found.broker.socket == Path("/run/pg_envelope/broker.sock")
    assert found.broker.epoch == Path("/run/pg_envelope/epoch")
    assert found.broker.mode == 0o660
    assert (found.cache.ttl_seconds, found.cache.grace_seconds) == (300, 3600)
    assert found.kms["main"].auth == config.TokenFile(Path("/t"))


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("brokr", {}, "unknown key brokr"),
        ("broker/sockt", "/x", "unknown key broker.sockt"),
        ("kms/main/adress", "x", "unknown key kms.main.adress"),
        ("kms/main/auth/role_id_file", "/x", "unknown key kms.main.auth.role_id_file"),
        ("kms/main/provider", "gcp", "kms.main.provider"),
        ("kms/main/provider", ["vault"], "kms.main.provider"),
        ("kms/main/address", None, "kms.main.address is missing"),
        ("kms/main/address", "http://kms:8200", "http://"),
        ("kms/main/address", "https://user:pass@kms:8200", "user or password"),
        ("kms/main/auth", "token", "kms.main.auth must be a table"),
        ("kms/main/auth/token_file", "relative", "kms.main.auth.token_file must be an absolute path"),
        ("kms/main/ca_file", "/no/such/file", "ca_file"),
        ("kms/main/kv_path", "../x/", "kv_path"),
        ("kms/main/timeout_ms", True, "kms.main.timeout_ms must be a whole number"),
        ("broker/fips", "true", "broker.fips must be true or false"),
        ("broker/fips_config", "fips.cnf", "broker.fips_config must be an absolute path"),
        ("broker", {"fips": True, "break_glass_public_key_file": "/b"}, "break_glass_public_key_file (X25519)"),
        ("kek", None, "at least one [kek.NAME]"),
        ("kek/default/kms", "nope", "kek.default.kms names 'nope'"),
        ("kek/default/key", "a/b", "kek key"),
        ("kek/a b", {"kms": "main", "key": "k"}, "kek.a b"),
        ("broker/metrics", "0.0.0.0:9464", "loopback"),
        ("broker/metrics", "localhost:9464", "loopback"),
        ("broker/metrics", "127.0.0.1:http", "port"),
        ("broker/socket_mode", "rw", "socket_mode"),
        ("broker/environment", "a b", "environment"),
        ("broker/allowed_users", "postgres", "allowed_users"),
        ("broker/allowed_users", [True], "allowed_users"),
        ("broker/max_requests", 0, "max_requests"),
        ("broker/deadline_ms", 1.5, "broker.deadline_ms must be a whole number"),
        ("cache/ttl_seconds", 0, "ttl_seconds"),
        ("cache/ttl_seconds", float("nan"), "cache.ttl_seconds must be a number"),
        ("cache/ttl_seconds", 86_401, "cache.ttl_seconds must be above 0 and at most 86400"),
        ("cache/session_ttl_seconds", 1e9, "cache.session_ttl_seconds"),
        ("cache/grace_seconds", 604_801, "cache.grace_seconds must be 0 to 604800"),
        ("cache/grace_seconds", -1, "cache.grace_seconds"),
        ("cache/ttl_seconds", "300", "cache.ttl_seconds must be a number"),
    ],
)
def test_refuses(path, value, names):
    with pytest.raises(errors.NotConfigured) as caught:
        config.parse(changed(path, value))
    assert names in caught.value.message


@pytest.mark.parametrize("address", ["http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost:8200"])
def test_clear_text_on_loopback_only(address):
    assert config.parse(changed("kms/main/address", address)).kms["main"].address == address


@pytest.mark.parametrize(("mode", "fit"), [(0o600, True), (0o640, True), (0o644, False), (0o660, False)])
def test_mode_of_the_file(tmp_path, mode, fit):
    path = tmp_path / "broker.toml"
    path.write_text('kek.default = { kms = "main", key = "k" }\n')
    path.chmod(mode)
    with pytest.raises(errors.NotConfigured, match="there is no" if fit else "open to others"):
        config.load(path)


def test_a_file_of_another_user_is_refused(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / "broker.toml"
    path.touch(mode=0o600)
    os.chown(path, 65534, -1)
    with pytest.raises(errors.NotConfigured, match="another user"):
        config.load(path)


def test_a_file_that_is_not_toml(tmp_path):
    path = tmp_path / "broker.toml"
    path.touch(mode=0o600)
    path.write_text("[broker")
    with pytest.raises(errors.NotConfigured, match="is not TOML"):
        config.load(path)


def test_the_example_shows_the_defaults_and_is_accepted():
    tables = tomllib.loads(EXAMPLE.read_text())
    tables["kms"]["main"]["ca_file"] = ""
    found = config.parse(tables)
    assert found.broker == config.BrokerSettings()
    assert found.cache == config.CacheSettings()
    assert set(found.kms) == {"main"}


AZURE = {"provider": "azure", "vault_url": "https://v.vault.azure.net"}
GOOGLE = {"provider": "google", "key_ring": "projects/p/locations/global/keyRings/r"}
HSM = {"provider": "pkcs11", "module": "/m.so", "token": "t", "pin_file": "/pin"}
KMIP = {"provider": "kmip", "host": "kms.example", "certificate_file": "/c.pem", "key_file": "/c.key"}
AWS = {"provider": "aws", "region": "eu-central-1"}
AWS_KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
SECRETS = {"provider": "secrets", "base_secret": "BASE"}


def of_provider(kms, key):
    return config.parse({"kms": {"main": kms}, "kek": {"default": {"kms": "main", "key": key}}}).kms["main"]


@pytest.mark.parametrize(
    ("kms", "key", "kind"),
    [
        (AWS, AWS_KEY, kms_settings.AwsSettings),
        (AWS, f"arn:aws:kms:eu-central-1:123456789012:key/{AWS_KEY}", kms_settings.AwsSettings),
        (AWS, "mrk-1234abcd12ab34cd56ef1234567890ab", kms_settings.AwsSettings),
        (HSM, "kek.1", kms_settings.Pkcs11Settings),
        (AZURE, "kek-1", kms_settings.AzureSettings),
        (GOOGLE, "kek_1", kms_settings.GoogleSettings),
        (KMIP, "kek.1", kms_settings.KmipSettings),
        ({**KMIP, "host": "::1", "port": 5697}, "kek.1", kms_settings.KmipSettings),
        (SECRETS, "kek", kms_settings.SecretsSettings),
        ({"provider": "keyring", "keyring_file": "/k", "passphrase_file": "/p"}, "kek", kms_settings.KeyringSettings),
    ],
)
def test_every_provider(kms, key, kind):
    assert type(of_provider(kms, key)) is kind


@pytest.mark.parametrize(
    ("kms", "key", "said"),
    [
        (AWS, "alias/main", "no alias"),
        (AWS, f"arn:aws:kms:eu-central-1:123456789012:alias/{AWS_KEY}", "no alias"),
        ({**AWS, "region": "a/b"}, AWS_KEY, "region"),
        ({**AWS, "endpoint": "http://kms.example"}, AWS_KEY, "http://"),
        ({**AWS, "secret_access_key": "x"}, AWS_KEY, "unknown key kms.main.secret_access_key"),
        ({**HSM, "module": "m.so"}, "k", "absolute"),
        ({**HSM, "token": ""}, "k", "token"),
        ({**HSM, "pin": "1234"}, "k", "unknown key kms.main.pin"),
        (HSM, "a/b", "kek key"),
        ({**AZURE, "vault_url": "http://127.0.0.1"}, "k", "https"),
        (AZURE, "a.b", "kek key"),
        ({**GOOGLE, "key_ring": "r"}, "k", "key_ring"),
        ({**GOOGLE, "endpoint": "http://kms.example"}, "k", "http://"),
        (GOOGLE, "a/b", "kek key"),
        (KMIP, "a/b", "kek key"),
        ({**KMIP, "host": "https://kms.example"}, "k", "host"),
        ({**KMIP, "host": "kms.example:5696"}, "k", "host"),
        ({**KMIP, "port": 0}, "k", "port"),
        ({**KMIP, "ca_file": "/no/such/file"}, "k", "ca_file"),
        ({**KMIP, "key_file": "c.key"}, "k", "absolute"),
        ({**SECRETS, "base_secret": "the secret itself"}, "k", "names of variables"),
        ({**SECRETS, "timeout_ms": 0}, "k", "timeout_ms"),
    ],
)
def test_every_provider_refuses(kms, key, said):
    with pytest.raises(errors.NotConfigured) as caught:
        of_provider(kms, key)
    assert said in caught.value.message


def test_the_example_s_other_providers_are_accepted():
    """Its commented tables, without the comment's sign."""
    lines = [line[2:] for line in EXAMPLE.read_text().splitlines() if re.match(r"# (\[|\w+ = )", line)]
    tables = tomllib.loads("\n".join(lines))
    providers = {table["provider"] for table in tables["kms"].values()}
    assert providers == {"keyring", "secrets", "aws", "pkcs11", "azure", "google", "kmip"}
    assert set(tables["kek"]) == set(tables["kms"])
    config.parse(tables)


DOOR = {"certificate_file": "/c.pem", "key_file": "/c.key", "client_ca_file": "/ca.pem"}
CRM = {"san": "URI:spiffe://shop/crm", "fields": {"customer.email": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}}
OPEN = {**GOOD, "door": DOOR, "application": {"crm": CRM}}


def test_there_is_no_door_by_default_and_one_with_its_table():
    assert config.parse(GOOD).door is None
    found = config.parse(OPEN)
    assert found.door == DoorSettings(Path("/c.pem"), Path("/c.key"), Path("/ca.pem"))
    assert [str(uuid) for uuid in found.application["crm"].fields.values()] == list(CRM["fields"].values())


def test_the_example_shows_the_defaults_of_the_door():
    text = EXAMPLE.read_text()
    lines = text[text.index("# [door]") : text.index("# HashiCorp Vault")].splitlines()
    tables = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines if line))
    places = {name: Path(tables["door"][name]) for name in DOOR}
    assert config.parse({**GOOD, **tables}).door == DoorSettings(**places)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("door", None, "needs a [door]"),
        ("door/listen", "example.org:1", "door.listen"),
        ("door/listen", "127.0.0.1:70000", "door.listen"),
        ("door/key_file", None, "door.key_file"),
        ("door/client_ca_file", "ca.pem", "door.client_ca_file"),
        ("door/keys_per_second", 0, "door.keys_per_second"),
        ("door/max_connections", 0, "door.max_connections"),
        ("door/max_requests", 0, "door.max_requests"),
        ("door/crl_file", "crl.pem", "door.crl_file"),
        ("application/crm/san", "spiffe://shop/crm", "san"),
        ("application/crm/fields/customer.email", "customer.email", "uuid"),
        ("application/crm/fields/again", CRM["fields"]["customer.email"], "twice"),
        ("application/second", CRM, "same san"),
        ("application/crm/tables", ["customer"], "tables"),
    ],
)
def test_refuses_a_door_that_is_not_right(path, value, named):
    tables = copy.deepcopy(OPEN)
    *parents, last = path.split("/")
    place = tables
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(errors.NotConfigured) as refused:
        config.parse(tables)
    assert named in refused.value.message


def test_a_keyring_goes_without_the_fips_provider():
    keyring = {"provider": "keyring", "keyring_file": "/k", "passphrase_file": "/p"}
    assert config.parse(changed("kms/main", keyring)).broker.fips is False
    with pytest.raises(errors.NotConfigured, match=r"fips goes without provider keyring \(scrypt\): kms.main"):
        config.parse({**changed("kms/main", keyring), "broker": {"fips": True}})
