"""`pg-envelope init` against a real OpenBao: what it makes, and that a second run changes nothing."""

from __future__ import annotations

import stat
from pathlib import Path

from pg_envelope.broker.settings import config

from .fix_kms import Kms, Site, pg_envelope

ROLE = "auth/approle/role/pg-envelope-broker"
# What the administrator's token needs when it is not root.
ADMIN = """
path "sys/mounts/transit" { capabilities = ["create", "read", "update"] }
path "sys/mounts/kv" { capabilities = ["create", "read", "update"] }
path "sys/auth/approle" { capabilities = ["create", "read", "update", "sudo"] }
path "transit/keys/pg-envelope-*" { capabilities = ["create", "read", "update"] }
path "kv/config" { capabilities = ["create", "update"] }
path "sys/policies/acl/pg-envelope-broker" { capabilities = ["create", "read", "update"] }
path "auth/approle/role/pg-envelope-broker" { capabilities = ["create", "read", "update"] }
path "auth/approle/role/pg-envelope-broker/role-id" { capabilities = ["read"] }
path "auth/approle/role/pg-envelope-broker/secret-id" { capabilities = ["create", "update"] }
path "auth/approle/role/pg-envelope-broker/secret-id/lookup" { capabilities = ["create", "update"] }
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def limited_token(kms: Kms, policy: str) -> str:
    kms.data("POST", "sys/policies/acl/limited", {"policy": policy})
    answer = kms.call("POST", "auth/token/create", {"policies": ["limited"], "no_default_policy": True})
    return str(answer.json()["auth"]["client_token"])


def files(out: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (mode(path), path.read_bytes()) for path in out.iterdir()}


def secret_ids(kms: Kms) -> list[str]:
    return list(kms.data("LIST", f"{ROLE}/secret-id")["keys"])


def test_first_run_creates_everything(site: Site) -> None:
    assert site.done() == {
        "secrets engine transit/": "created",
        "KEK default": "created",
        "secrets engine kv/": "created",
        "check-and-set of kv/": "created",
        "policy pg-envelope-broker": "created",
        "auth method approle/": "created",
        "AppRole pg-envelope-broker": "created",
        "secret id": "created",
        str(site.out / "broker.toml"): "created",
    }


def test_the_kek_cannot_leave_the_kms(site: Site) -> None:
    site.done()
    key = site.kms.data("GET", "transit/keys/pg-envelope-default")
    wanted = {
        "type": "aes256-gcm96",
        "derived": True,
        "exportable": False,
        "deletion_allowed": False,
        "allow_plaintext_backup": False,
    }
    assert {name: key[name] for name in wanted} == wanted


def test_the_role_gives_a_short_token_with_one_policy(site: Site) -> None:
    site.done()
    role = site.kms.data("GET", ROLE)
    assert role["token_policies"] == ["pg-envelope-broker"]
    assert (role["token_ttl"], role["token_max_ttl"], role["token_no_default_policy"]) == (3600, 86400, True)
    assert site.kms.log_in(site.out).data("GET", "auth/token/lookup-self")["policies"] == ["pg-envelope-broker"]


def test_files_and_their_modes(site: Site) -> None:
    site.done()
    modes = {name: found for name, (found, _) in files(site.out).items()}
    assert modes == {"broker.toml": 0o640, "role_id": 0o600, "secret_id": 0o600, "ca.pem": 0o644}
    assert mode(site.out) == 0o711, "the server passes it, to backend.conf"
    assert (site.out / "ca.pem").read_bytes() == site.kms.ca_file.read_bytes()


def test_the_broker_reads_the_configuration(site: Site) -> None:
    site.done("--socket", "/run/x/b.sock", "--allow-user", "postgres", "--allow-user", "pg2", "--environment", "prod")
    loaded = config.load(site.out / "broker.toml")
    assert loaded.broker.socket == Path("/run/x/b.sock")
    assert loaded.broker.allowed_users == ("postgres", "pg2")
    assert loaded.broker.environment == "prod"
    assert loaded.kms["main"] == config.VaultSettings(
        address=site.kms.address,
        auth=config.AppRole(site.out / "role_id", site.out / "secret_id", "approle"),
        ca_file=str(site.out / "ca.pem"),
        namespace=site.kms.namespace,
    )
    assert loaded.kek["default"] == config.Kek("main", "pg-envelope-default")


def test_a_second_run_changes_nothing(site: Site) -> None:
    site.done()
    before, ids = files(site.out), secret_ids(site.kms)
    assert set(site.done().values()) == {"already there", "kept"}
    assert files(site.out) == before
    assert secret_ids(site.kms) == ids
    assert len(ids) == 1


def test_a_second_run_needs_no_options_but_the_directory(site: Site) -> None:
    site.done()
    again = pg_envelope("init", "--out", site.out, "--json", VAULT_TOKEN=site.kms.token)
    assert again.code == 0, again.err
    assert {step["state"] for step in again.json["steps"]} == {"already there", "kept"}


def test_the_right_to_shred_is_given_when_asked_for_and_kept(site: Site) -> None:
    site.done()
    again = ("init", "--out", site.out, "--json")
    assert pg_envelope(*again, "--allow-shred", VAULT_TOKEN=site.kms.token).json["steps"]
    rule = 'path "kv/metadata/pg_envelope/*" { capabilities = ["delete"] }'
    for _ in range(2):
        assert rule in site.kms.data("GET", "sys/policies/acl/pg-envelope-broker")["policy"]
        assert pg_envelope(*again, VAULT_TOKEN=site.kms.token).code == 0


def test_checkpoints_in_kv_may_be_made_and_not_changed(site: Site) -> None:
    """What reads_anchor = "kv:main" needs."""
    site.done()
    broker, place = site.kms.log_in(site.out), "pg_envelope_anchor/default/0a1b2c3d/000000000001"

    def tried(method: str, kind: str, body: object = None) -> int:
        return broker.call(method, f"kv/{kind}/{place}", body).status_code

    assert tried("POST", "data", {"data": {"note": "x"}, "options": {"cas": 0}}) == 200
    assert tried("GET", "data") == 200
    assert tried("POST", "data", {"data": {"note": "y"}, "options": {"cas": 1}}) == 403
    assert tried("DELETE", "data") == tried("DELETE", "metadata") == 403
    assert tried("POST", "destroy", {"versions": [1]}) == 403


def test_an_earlier_setup_gets_the_right_to_anchor(site: Site) -> None:
    site.done()
    name = "sys/policies/acl/pg-envelope-broker"
    lines = site.kms.data("GET", name)["policy"].splitlines()
    site.kms.data("PUT", name, {"policy": "\n".join(line for line in lines if "_anchor/" not in line) + "\n"})
    assert site.done()["policy pg-envelope-broker"] == "updated"
    assert site.kms.data("GET", name)["policy"].splitlines() == lines


def test_a_destroyed_secret_id_is_replaced(site: Site) -> None:
    site.done()
    old = (site.out / "secret_id").read_text().strip()
    site.kms.data("POST", f"{ROLE}/secret-id/destroy", {"secret_id": old})
    assert site.done()["secret id"] == "created"
    assert (site.out / "secret_id").read_text().strip() != old
    assert len(secret_ids(site.kms)) == 1
    site.kms.log_in(site.out)


def test_a_second_kek_joins_the_first(site: Site) -> None:
    site.done()
    written = site.out / "broker.toml"
    written.write_text(written.read_text().replace("[broker]", "[broker]  # ours\nmax_requests = 7"))
    steps = site.done("--kek", "other")
    assert steps["KEK other"] == "created"
    assert steps["policy pg-envelope-broker"] == "updated"
    assert steps["secret id"] == "kept"
    assert "[broker]  # ours" in written.read_text()
    loaded = config.load(written)
    assert loaded.broker.max_requests == 7
    assert dict(loaded.kek) == {
        "default": config.Kek("main", "pg-envelope-default"),
        "other": config.Kek("main", "pg-envelope-other"),
    }
    broker = site.kms.log_in(site.out)
    assert broker.call("GET", "transit/keys/pg-envelope-default").ok
    assert broker.call("GET", "transit/keys/pg-envelope-other").ok


def test_a_lost_directory_does_not_take_the_other_kek_away(site: Site, tmp_path: Path) -> None:
    site.done()
    site.done("--kek", "other")
    moved = Site(site.kms, tmp_path / "new")
    moved.done()
    assert site.kms.log_in(moved.out).call("GET", "transit/keys/pg-envelope-other").ok


def test_a_new_role_covers_every_kek_of_the_configuration(site: Site) -> None:
    site.done()
    site.done("--kek", "other", "--policy-name", "second")
    assert site.kms.log_in(site.out).call("GET", "transit/keys/pg-envelope-default").ok


def test_other_mounts_and_no_namespace(server: Kms, tmp_path: Path) -> None:
    site = Site(server, tmp_path / "site")
    places = ["--transit-mount", "team/keys", "--kv-mount", "team/kv", "--kv-path", "a/b", "--approle-mount", "login"]
    site.done(*places, "--policy-name", "team-broker")
    broker = server.log_in(site.out, "login")
    assert broker.call("GET", "team/keys/keys/pg-envelope-default").ok
    entry = {"options": {"cas": 0}, "data": {"wrapped": "x"}}
    assert broker.call("POST", "team/kv/data/a/b/some-database/1", entry).ok
    assert broker.call("POST", "team/kv/data/other/1", entry).status_code == 403


def test_an_engine_that_is_there_is_left_as_it_is(site: Site) -> None:
    site.kms.data("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
    assert site.done()["secrets engine kv/"] == "already there"
    assert site.kms.data("GET", "kv/config")["cas_required"] is False


def test_a_token_with_only_the_needed_rights(site: Site) -> None:
    token = limited_token(site.kms, ADMIN)
    assert site.done(token=token)["KEK default"] == "created"
    assert set(site.done(token=token).values()) == {"already there", "kept"}


def test_a_token_that_may_not_see_the_mounts(site: Site) -> None:
    site.done()
    rights = "\n".join(line for line in ADMIN.splitlines() if "sys/mounts" not in line and "sys/auth" not in line)
    steps = site.done("--kek", "other", token=limited_token(site.kms, rights))
    assert steps["secrets engine transit/"] == steps["auth method approle/"] == "not checked"
    assert steps["KEK other"] == "created"


def test_deletion_of_an_existing_key_is_forbidden_again(site: Site) -> None:
    site.done()
    site.kms.data("POST", "transit/keys/pg-envelope-default/config", {"deletion_allowed": True})
    assert site.done()["KEK default"] == "updated"
    assert site.kms.data("GET", "transit/keys/pg-envelope-default")["deletion_allowed"] is False


def test_the_token_may_come_from_a_file(site: Site, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(site.kms.token + "\n")
    token.chmod(0o644)
    refused = site.init("--token-file", token, token="")
    assert refused.code == 1
    assert "every user of this machine may read or change" in refused.err
    token.chmod(0o600)
    site.done("--token-file", token, token="")


def test_the_broker_can_work_with_it(site: Site) -> None:
    site.done("--socket", site.out / "run" / "broker.sock")
    (site.out / "run").mkdir(mode=0o700)
    file = site.out / "broker.toml"
    file.write_text(file.read_text().replace("[broker]\n", f'[broker]\nerasures = "{site.out}/run/erasures.jsonl"\n'))
    result = pg_envelope("broker", "--config", site.out / "broker.toml", "--check", "--json")
    assert {check["check_name"]: check["state"] for check in result.json if check["state"] == "failed"} == {}
    assert result.code == 0, result.err


def test_the_broker_reports_what_fails(site: Site) -> None:
    site.done()
    site.kms.data("POST", f"{ROLE}/secret-id/destroy", {"secret_id": (site.out / "secret_id").read_text().strip()})
    result = pg_envelope("broker", "--config", site.out / "broker.toml", "--check")
    assert result.code == 1, result.err
    assert "failed" in result.out
    assert "What to do next:" in result.out


def test_what_a_person_sees(site: Site) -> None:
    result = site.init()
    assert result.code == 0, result.err
    assert 'path "transit/datakey/wrapped/pg-envelope-default" { capabilities = ["update"] }' in result.out
    assert "What to do next:" in result.out
    assert f"pg-envelope broker --check --config {site.out / 'broker.toml'}" in result.out
    secret = (site.out / "secret_id").read_text().strip()
    assert secret not in result.out + result.err
