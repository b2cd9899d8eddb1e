"""What `pg-envelope init` refuses, with a clear message and without touching what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stack.processes import free_port

from .fix_kms import Kms, Result, Site, pg_envelope

POLICY = "sys/policies/acl/pg-envelope-broker"
ROLE = "auth/approle/role/pg-envelope-broker"


def assert_refused(result: Result, *reasons: str) -> None:
    assert result.code == 1, result.err
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    assert not result.out
    for reason in reasons:
        assert reason in result.err


def test_a_token_without_rights_is_told_what_it_lacks(site: Site) -> None:
    policy = 'path "sys/mounts/*" { capabilities = ["read"] }'
    site.kms.data("POST", "sys/policies/acl/limited", {"policy": policy})
    token = site.kms.call("POST", "auth/token/create", {"policies": ["limited"]}).json()["auth"]["client_token"]
    result = site.init(token=token)
    assert_refused(result, "the token is not allowed to: create sys/mounts/transit")
    assert token not in result.err
    assert not (site.out / "broker.toml").exists()


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"type": "aes256-gcm96"}, "it is not derived"),
        ({"type": "chacha20-poly1305", "derived": True}, "its type is chacha20-poly1305"),
        ({"type": "aes256-gcm96", "derived": True, "exportable": True}, "it is exportable"),
        ({"type": "aes256-gcm96", "derived": True, "allow_plaintext_backup": True}, "it allows plaintext backups"),
    ],
)
def test_an_unfit_key(site: Site, made: dict[str, Any], reason: str) -> None:
    site.kms.data("POST", "sys/mounts/transit", {"type": "transit"})
    site.kms.data("POST", "transit/keys/pg-envelope-default", made)
    assert_refused(site.init(), "exists and cannot serve as a KEK", reason, "--kek NAME")
    assert not (site.out / "broker.toml").exists()


def test_somebody_elses_policy(site: Site) -> None:
    theirs = 'path "x" { capabilities = ["read"] }'
    site.kms.data("POST", POLICY, {"policy": theirs})
    assert_refused(site.init(), "policy pg-envelope-broker exists and belongs to something else")
    assert site.kms.data("GET", POLICY)["policy"] == theirs


def test_a_policy_for_other_places(site: Site, tmp_path: Path) -> None:
    site.done()
    assert_refused(Site(site.kms, tmp_path / "staging").init("--kv-path", "staging"), "--policy-name")
    assert site.kms.log_in(site.out).call("GET", "transit/keys/pg-envelope-default").ok


def test_somebody_elses_role(site: Site) -> None:
    site.kms.data("POST", "sys/auth/approle", {"type": "approle"})
    site.kms.data("POST", ROLE, {"token_policies": ["theirs"]})
    assert_refused(site.init(), "has other policies")
    assert site.kms.data("GET", ROLE)["token_policies"] == ["theirs"]


def test_an_engine_of_another_version(site: Site) -> None:
    site.kms.data("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "1"}})
    assert_refused(site.init(), "kv/ is not KV version 2")


def test_an_engine_of_another_type(site: Site) -> None:
    site.kms.data("POST", "sys/mounts/transit", {"type": "kv"})
    assert_refused(site.init(), "transit/ is a secrets engine of type kv, not transit", "--transit-mount")


def test_options_that_contradict_the_configuration(site: Site) -> None:
    site.done()
    before = (site.out / "broker.toml").read_bytes()
    assert_refused(site.init("--environment", "prod"), "has another environment in [broker]")
    assert (site.out / "broker.toml").read_bytes() == before


def test_a_configuration_that_would_widen_the_policy(site: Site) -> None:
    site.done()
    written = site.out / "broker.toml"
    written.write_text(written.read_text() + '\n[kek.wide]\nkms = "main"\nkey = "*"\n')
    result = site.init()
    assert result.code == 2
    assert "'*' is not a usable name" in result.err
    policy = site.kms.data("GET", POLICY)["policy"]
    assert "*" not in policy.replace("pg_envelope/*", "").replace("pg_envelope_anchor/*", "")


def test_a_certificate_of_an_unknown_ca(site: Site) -> None:
    result = pg_envelope("init", "--address", site.kms.address, "--out", site.out, VAULT_TOKEN=site.kms.token)
    assert_refused(result, "does not show a certificate to trust", "--ca-file")
    assert site.kms.token not in result.err


def test_a_kms_that_is_down(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    result = pg_envelope("init", "--address", address, "--out", tmp_path / "x", VAULT_TOKEN="t0k3n")
    assert_refused(result, f"{address} does not answer")
    assert "t0k3n" not in result.err


def test_a_namespace_that_is_not_there(site: Site) -> None:
    lost = Site(Kms(site.kms.address, site.kms.ca_file, site.kms.token, "nowhere"), site.out)
    assert_refused(lost.init())
