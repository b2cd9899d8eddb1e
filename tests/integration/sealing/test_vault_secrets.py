"""Secrets in the KV engine of a real OpenBao."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope_client import Secrets, VaultSecrets
from stack.processes import free_port
from tests.integration.sealing.fix_vault import LISTER, READER, WRITER, VaultOfTests

PLANTED = "planted 4Kq value"


def refusal(kind: type[errors.EnvelopeError], secrets: Secrets, name: str) -> errors.EnvelopeError:
    with pytest.raises(kind) as caught:
        secrets.content(name)
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None
    assert PLANTED not in f"{caught.value.said} {caught.value.hint}"
    return caught.value


def test_the_newest_and_for_a_while_the_one_before(vault: VaultOfTests) -> None:
    vault.put("shop/stripe", value="sk_1")
    source = vault.source(READER)
    secrets = Secrets(source)
    assert (secrets["shop/stripe"], secrets.valid("shop/stripe")) == ("sk_1", [b"sk_1"])
    vault.put("shop/stripe", value="sk_2")
    assert secrets["shop/stripe"] == "sk_1", "it is kept for a while"
    secrets.forget()
    assert secrets.valid("shop/stripe") == [b"sk_2", b"sk_1"]
    assert Secrets(source, grace_seconds=0).valid("shop/stripe") == [b"sk_2"]
    vault.kms.data("PUT", "secret/destroy/shop/stripe", {"versions": [1]})
    secrets.forget()
    assert secrets.valid("shop/stripe") == [b"sk_2"], "what was destroyed is not valid"


def test_the_grace_goes_by_the_server_s_times(vault: VaultOfTests) -> None:
    for value in ("sk_1", "sk_2"):
        vault.put("shop/stripe", value=value)
    secrets = Secrets(vault.source(READER), grace_seconds=2)
    assert secrets.valid("shop/stripe") == [b"sk_2", b"sk_1"]
    until = time.monotonic() + 60
    while secrets.valid("shop/stripe") != [b"sk_2"]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_the_end_of_its_time_empties_the_cache(vault: VaultOfTests) -> None:
    vault.put("shop/stripe", value="sk_1")
    secrets = Secrets(vault.source(READER), cache_seconds=0)
    assert secrets["shop/stripe"] == "sk_1"
    vault.kms.data("DELETE", "secret/data/shop/stripe")
    refusal(errors.KeyNotFound, secrets, "shop/stripe")


def test_one_member_of_several(vault: VaultOfTests) -> None:
    vault.put("shop/db", username="u", password="p", port=5432, empty="")
    source = vault.source(WRITER, path="shop")
    secrets = Secrets(source)
    assert (secrets["db#username"], secrets["db#password"]) == ("u", "p")
    for name in ("db", "db#port", "db#empty", "db#none", "db#", "#username"):
        refusal(errors.BadInput, secrets, name)
    assert secrets.store("db#password", "p2") == 2
    assert vault.members("shop/db") == {"username": "u", "password": "p2", "port": 5432, "empty": ""}
    assert secrets.valid("db#password") == [b"p2", b"p"]
    vault.put("shop/db", password="p3")
    vault.put("shop/db", password="p4", other=1)
    secrets.forget()
    assert secrets.valid("db#password") == [b"p4", b"p3"]


def test_names_below_the_path(vault: VaultOfTests) -> None:
    for name in ("shop/a", "shop/b/c", "shop/b/d/e", "other/f"):
        vault.put(name, value="x")
    secrets = Secrets(vault.source(path="shop"))
    assert secrets.names() == ["a", "b/c", "b/d/e"]
    assert (secrets.names("b/"), secrets.names("b/c"), secrets.names("none/x")) == (["b/c", "b/d/e"], ["b/c"], [])
    assert Secrets(vault.source(LISTER)).names("shop/a") == ["shop/a"]
    with pytest.raises(errors.KmsDenied):
        Secrets(vault.source(READER)).names("shop/")


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "..", "../other/f", "a/../../other/f", ".", "a\nb", "\0"]
)
def test_a_name_does_not_lead_out_of_the_path(vault: VaultOfTests, name: str) -> None:
    vault.put("other/f", value=PLANTED)
    secrets = Secrets(vault.source(path="shop"))
    refusal(errors.BadInput, secrets, name)
    with pytest.raises(errors.BadInput):
        secrets.store(name, "x")


def test_odd_names_and_values_come_back(vault: VaultOfTests) -> None:
    secrets = Secrets(vault.source(path="odd"), cache_seconds=0)
    letters = st.characters(exclude_categories=["C", "Z"], exclude_characters="/#")
    parts = st.text(letters, min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))
    held: dict[str, str] = {}

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(parts, min_size=1, max_size=3).map("/".join),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    )
    def comes_back(name: str, value: str) -> None:
        secrets.store(name, value)
        held[name] = value
        assert secrets[name] == value

    comes_back()
    assert {name: secrets[name] for name in secrets.names()} == held


def test_what_is_deleted_or_destroyed_says_so_and_nothing_older_stands_in(vault: VaultOfTests) -> None:
    secrets = Secrets(vault.source(WRITER), cache_seconds=0)
    for value in ("sk_1", PLANTED):
        vault.put("shop/stripe", value=value)
    vault.kms.data("DELETE", "secret/data/shop/stripe")
    assert "undelete" in str(refusal(errors.KeyNotFound, secrets, "shop/stripe").hint)
    vault.kms.data("POST", "secret/undelete/shop/stripe", {"versions": [2]})
    assert secrets["shop/stripe"] == PLANTED
    vault.kms.data("PUT", "secret/destroy/shop/stripe", {"versions": [2]})
    assert "destroyed" in refusal(errors.KeyDestroyed, secrets, "shop/stripe").message
    assert secrets.store("shop/stripe", "sk_3") == 3
    assert secrets.valid("shop/stripe") == [b"sk_3"]
    vault.kms.data("DELETE", "secret/metadata/shop/stripe")
    assert "no secret of this name" in refusal(errors.KeyNotFound, secrets, "shop/stripe").message
    assert secrets.store("shop/stripe", "sk_1") == 1


def test_who_may_not_is_told_what_a_policy_must_say(vault: VaultOfTests) -> None:
    vault.put("shop/stripe", value=PLANTED)
    vault.put("other", value=PLANTED)
    reader = Secrets(vault.source(READER))
    assert "policy" in refusal(errors.KmsDenied, reader, "other").said
    with pytest.raises(errors.KmsDenied, match="refused"):
        reader.store("shop/stripe", "x")
    assert vault.members("shop/stripe") == {"value": PLANTED}
    nobody = Secrets(vault.source('path "none" { capabilities = ["read"] }\n'))
    assert "mount is not there" in refusal(errors.KmsInvalid, nobody, "shop/stripe").said


def test_mounts_that_are_old_moved_or_something_else(vault: VaultOfTests) -> None:
    vault.kms.data("POST", "old/data/stripe", {"value": PLANTED})
    old = Secrets(vault.source(mount="old"))
    assert "version 1" in refusal(errors.Unsupported, old, "stripe").message
    with pytest.raises(errors.Unsupported):
        old.store("stripe", "x")
    with pytest.raises(errors.Unsupported):
        old.names()
    assert vault.kms.data("GET", "old/data/stripe") == {"value": PLANTED}, "nothing was written there"
    vault.put("shop/stripe", value="sk_1")
    secrets = Secrets(vault.source(), cache_seconds=0)
    assert secrets["shop/stripe"] == "sk_1"
    vault.kms.data("POST", "sys/remount", {"from": "secret", "to": "moved"})
    until = time.monotonic() + 60
    while vault.kms.call("GET", "moved/data/shop/stripe").status_code != 200 and time.monotonic() < until:
        time.sleep(0.1)
    assert "not there" in refusal(errors.KmsInvalid, secrets, "shop/stripe").said
    assert Secrets(vault.source(mount="moved"))["shop/stripe"] == "sk_1"
    vault.mount("secret", "1")
    assert "version 1" in refusal(errors.Unsupported, secrets, "shop/stripe").message
    for mount, kind in {"moved/shop": errors.KmsInvalid, "sys": errors.Unsupported}.items():
        refusal(kind, Secrets(vault.source(mount=mount)), "stripe")


def test_a_vault_that_is_away_or_another_one(vault: VaultOfTests, tmp_path: Path) -> None:
    vault.put("shop/stripe", value="sk_1")
    login: dict[str, Any] = {"token_file": vault.token_file(), "ca_file": vault.kms.ca_file}
    away = Secrets(VaultSecrets(f"https://127.0.0.1:{free_port()}", **login))
    found = refusal(errors.KmsUnavailable, away, "shop/stripe")
    assert (found.message, found.detail) == ("Vault does not answer", "nothing listens at its address and port")
    strange = Secrets(VaultSecrets(vault.kms.address, token_file=login["token_file"]))
    assert "TLS failed" in refusal(errors.KmsUnavailable, strange, "shop/stripe").said
    lost = Secrets(vault.source(namespace="nowhere"))
    refusal(errors.KmsDenied, lost, "shop/stripe")
    bad = tmp_path / "bad"
    bad.touch(0o600)
    bad.write_text("s.no-such-token-0123456789")
    refusal(errors.KmsDenied, Secrets(vault.source(token_file=bad)), "shop/stripe")
    bad.chmod(0o644)
    assert str(bad) in refusal(errors.KmsDenied, Secrets(vault.source(token_file=bad)), "shop/stripe").said
    assert "cannot read" in refusal(errors.KmsDenied, Secrets(vault.source(token_file=tmp_path / "none")), "x").said


MOUNT = {"path": "secret/", "type": "kv", "options": {"version": "2"}}
ABOUT = {"version": 1, "created_time": "2026-01-01T00:00:00Z", "destroyed": False, "deletion_time": ""}
ODD: list[tuple[int, bytes]] = [
    (status, json.dumps(body).encode())
    for status in (200, 404)
    for body in (
        None, [], 7, PLANTED, {}, {"data": None}, {"data": []}, {"data": {}},
        {"errors": [PLANTED]}, {"errors": PLANTED},
        {"data": {"data": {"value": PLANTED}}},
        {"data": {"data": {"value": PLANTED}, "metadata": {"version": PLANTED}}},
        {"data": {"data": {"value": PLANTED}, "metadata": {**ABOUT, "version": -1}}},
        {"data": {"data": {"value": PLANTED}, "metadata": {**ABOUT, "version": 2**70}}},
        {"data": {"data": PLANTED, "metadata": ABOUT}},
        {"data": {"data": {"value": [PLANTED]}, "metadata": ABOUT}},
        {"data": {"data": {"value": "\ud800"}, "metadata": ABOUT}},
    )
]  # fmt: skip
ODD += [
    (200, PLANTED.encode()),
    (200, b""),
    (200, b"{" * 9999),
    (307, b""),
    (500, PLANTED.encode()),
    (429, b"{}"),
    (503, b""),
]


class OddVault(BaseHTTPRequestHandler):
    """Takes each login, and answers what is asked for a secret as `odd` says."""

    odd = (200, b"")

    def do_GET(self) -> None:
        known = {"/v1/auth/token/lookup-self": {"ttl": 0}, "/v1/sys/internal/ui/mounts/secret": MOUNT}
        found = known.get(self.path)
        status, body = self.odd if found is None else (200, json.dumps({"data": found}).encode())
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:1/v1/secret")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_LIST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_odd_answers_are_refused_without_their_text(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("s.a-token-of-the-test-0123456789")
    with ThreadingHTTPServer(("127.0.0.1", 0), OddVault) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = VaultSecrets(f"http://127.0.0.1:{server.server_port}", token_file=token)
        secrets = Secrets(source)
        for OddVault.odd in ODD:
            for ask in (secrets.content, lambda _: secrets.names()):
                with pytest.raises(errors.EnvelopeError) as caught:
                    ask("stripe")
                told = f"{caught.value.said} {caught.value.hint}"
                assert PLANTED not in told, OddVault.odd
                assert token.read_text() not in told
        OddVault.odd = (200, json.dumps({"data": {"data": {"value": "sk_1"}, "metadata": ABOUT}}).encode())
        assert secrets["stripe"] == "sk_1", "it goes on"
        server.shutdown()
        source.close()


def test_a_token_that_ended_is_read_anew(vault: VaultOfTests) -> None:
    vault.put("shop/stripe", value="sk_1")
    file = vault.token_file(READER)
    secrets = Secrets(vault.source(token_file=file), cache_seconds=0)
    assert secrets["shop/stripe"] == "sk_1"
    vault.kms.call("POST", "auth/token/revoke", {"token": file.read_text()})
    refusal(errors.KmsDenied, secrets, "shop/stripe")
    file.write_text(vault.token_file(READER).read_text())
    assert secrets["shop/stripe"] == "sk_1"


def test_an_app_role_logs_in(vault: VaultOfTests) -> None:
    kms, home = vault.kms, vault.home
    vault.put("shop/stripe", value="sk_1")
    kms.data("POST", "sys/policies/acl/shop", {"policy": READER})
    kms.data("POST", "sys/auth/approle", {"type": "approle"})
    kms.data("POST", "auth/approle/role/shop", {"token_policies": ["shop"], "token_no_default_policy": True})
    for name, (method, path) in {"role_id": ("GET", "role-id"), "secret_id": ("POST", "secret-id")}.items():
        (home / name).touch(0o600)
        (home / name).write_text(kms.data(method, f"auth/approle/role/shop/{path}")[name])
    login = {"role_id_file": home / "role_id", "secret_id_file": home / "secret_id"}
    assert Secrets(vault.source(**login))["shop/stripe"] == "sk_1"
    with pytest.raises(errors.BadInput):
        vault.source(role_id_file=home / "role_id")


@pytest.mark.parametrize(
    "wrong",
    [{"mount": "a/../b"}, {"mount": ""}, {"mount": "/secret/"}, {"path": ".."}, {"path": "a?b"}, {"namespace": "a\nb"},
     {"timeout_ms": 0}, {"ca_file": "/nowhere"}, {"approle_mount": "../x"}],
)  # fmt: skip
def test_settings_that_cannot_be_meant(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.BadInput):
        VaultSecrets("https://vault.example:8200", **{"token_file": tmp_path / "token", **wrong})


@pytest.mark.parametrize(
    "address", ["", "vault", "http://vault.example:8200", "https://u:p@vault.example", "file:///etc"]
)
def test_addresses_without_tls(tmp_path: Path, address: str) -> None:
    with pytest.raises(errors.BadInput):
        VaultSecrets(address, token_file=tmp_path / "token")


def test_bytes_that_are_no_text_are_not_stored(vault: VaultOfTests) -> None:
    secrets = Secrets(vault.source())
    for value in (b"\xff\x00", "\ud800", "", b""):
        with pytest.raises(errors.BadInput):
            secrets.store("stripe", value)
    assert (secrets.store("stripe", b"plain"), secrets.names()) == (1, ["stripe"])


def test_of_many_writers_each_stores_a_version_or_is_told(vault: VaultOfTests) -> None:
    sources = [vault.source() for _ in range(4)]

    def store(number: int) -> int:
        try:
            return Secrets(sources[number % 4]).store("stripe", f"sk_{number}")
        except errors.Conflict:
            return 0

    with ThreadPoolExecutor(8) as pool:
        versions = [found for found in pool.map(store, range(24)) if found]
    assert sorted(versions) == list(range(1, len(versions) + 1))


def read_in_child(secrets: Secrets, name: str, answer: Any) -> None:
    answer.put(secrets[name])


def test_a_forked_process_has_a_connection_of_its_own(vault: VaultOfTests) -> None:
    vault.put("stripe", value="sk_1")
    secrets = Secrets(vault.source(), cache_seconds=0)
    assert secrets["stripe"] == "sk_1"
    forked = multiprocessing.get_context("fork")
    answer = forked.SimpleQueue()
    children = [forked.Process(target=read_in_child, args=(secrets, "stripe", answer)) for _ in range(3)]
    for child in children:
        child.start()
    assert [answer.get() for _ in children] + [secrets["stripe"]] == ["sk_1"] * 4
    for child in children:
        child.join(60)


def test_reads_and_writes_are_in_vault_s_audit_log_without_the_value(vault: VaultOfTests) -> None:
    secrets = Secrets(vault.source())
    secrets.store("audited9", PLANTED)
    assert secrets["audited9"] == PLANTED
    log = vault.kms.audit_log.read_text()
    lines = [line for line in log.splitlines() if "secret/data/audited9" in line]
    assert {word for word in ("read", "create", "update") for line in lines if f'"operation":"{word}"' in line} >= {
        "read"
    }
    assert PLANTED not in log
    assert vault.kms.token not in log
