"""The broker's login may do what the broker needs, and is denied everything else, by a real OpenBao."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from .fix_kms import Kms, Site

KEY = "pg-envelope-default"
CONTEXT = base64.b64encode(b"pg_envelope/1 default 00000000-0000-0000-0000-000000000000 1").decode()
ENTRY = "kv/data/pg_envelope/00000000-0000-0000-0000-000000000000/1"
ANY = {"plaintext": "YQ==", "ciphertext": "vault:v1:AAAA", "context": CONTEXT}

FORBIDDEN = [
    ("POST", f"transit/datakey/plaintext/{KEY}", {"context": CONTEXT}),
    ("POST", f"transit/hmac/{KEY}", {"input": "YQ=="}),
    ("GET", f"transit/export/encryption-key/{KEY}", None),
    ("GET", f"transit/backup/{KEY}", None),
    ("POST", f"transit/restore/{KEY}", {"backup": "x", "force": True}),
    ("DELETE", f"transit/keys/{KEY}", None),
    ("POST", f"transit/keys/{KEY}", {"type": "aes256-gcm96"}),
    ("POST", f"transit/keys/{KEY}/config", {"deletion_allowed": True}),
    ("POST", f"transit/keys/{KEY}/trim", {"min_available_version": 1}),
    ("LIST", "transit/keys", None),
    ("GET", "transit/keys/theirs", None),
    ("POST", "transit/keys/theirs/rotate", {}),
    ("POST", "transit/decrypt/theirs", ANY),
    ("POST", "transit/rewrap/theirs", ANY),
    ("POST", "transit/encrypt/theirs", ANY),
    ("POST", "transit/datakey/wrapped/theirs", {"context": CONTEXT}),
    ("POST", "transit/keys/pg-envelope-new", {"type": "aes256-gcm96"}),
    ("DELETE", ENTRY, None),
    ("PATCH", ENTRY, {"data": {"wrapped": "x"}, "options": {"cas": 1}}),
    ("POST", ENTRY.replace("/data/", "/delete/"), {"versions": [1]}),
    ("POST", ENTRY.replace("/data/", "/destroy/"), {"versions": [1]}),
    ("POST", ENTRY.replace("/data/", "/undelete/"), {"versions": [1]}),
    ("DELETE", ENTRY.replace("/data/", "/metadata/"), None),
    ("GET", ENTRY.replace("/data/", "/metadata/"), None),
    ("LIST", "kv/metadata/pg_envelope", None),
    ("GET", "kv/data/theirs", None),
    ("POST", "kv/data/theirs", {"data": {}, "options": {"cas": 0}}),
    ("GET", "kv/config", None),
    ("POST", "kv/config", {"cas_required": False}),
    ("GET", "sys/mounts", None),
    ("POST", "sys/mounts/more", {"type": "kv"}),
    ("DELETE", "sys/mounts/kv", None),
    ("GET", "sys/auth", None),
    ("LIST", "sys/policies/acl", None),
    ("GET", "sys/policies/acl/pg-envelope-broker", None),
    ("POST", "sys/policies/acl/pg-envelope-broker", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
    ("POST", "sys/capabilities-self", {"paths": ["sys/mounts"]}),
    ("POST", "sys/wrapping/wrap", {"a": "b"}),
    ("LIST", "sys/leases/lookup/", None),
    ("GET", "auth/approle/role/pg-envelope-broker", None),
    ("POST", "auth/approle/role/pg-envelope-broker", {"token_policies": ["root"]}),
    ("GET", "auth/approle/role/pg-envelope-broker/role-id", None),
    ("POST", "auth/approle/role/pg-envelope-broker/secret-id", {}),
    ("LIST", "auth/approle/role/pg-envelope-broker/secret-id", None),
    ("POST", "auth/token/create", {}),
    ("POST", "cubbyhole/x", {"a": "b"}),
    ("LIST", "identity/entity/id", None),
]


@pytest.fixture(scope="module")
def admin(server: Kms) -> Kms:
    server.data("POST", "sys/namespaces/privilege", {})
    return Kms(server.address, server.ca_file, server.token, "privilege")


@pytest.fixture(scope="module")
def broker(admin: Kms, tmp_path_factory: pytest.TempPathFactory) -> Kms:
    """The broker's login, in a namespace that also has a key and a secret of somebody else's."""
    site = Site(admin, tmp_path_factory.mktemp("privilege"))
    site.done()
    admin.data("POST", "transit/keys/theirs", {"type": "aes256-gcm96", "derived": True})
    admin.data("POST", "kv/data/theirs", {"data": {"a": "b"}, "options": {"cas": 0}})
    admin.data("POST", ENTRY, {"data": {"wrapped": "w"}, "options": {"cas": 0}})
    return admin.log_in(site.out)


def wrapped(broker: Kms) -> str:
    return str(broker.data("POST", f"transit/datakey/wrapped/{KEY}", {"context": CONTEXT})["ciphertext"])


def test_makes_and_opens_wrapped_deks(broker: Kms) -> None:
    opened = broker.data("POST", f"transit/decrypt/{KEY}", {"ciphertext": wrapped(broker), "context": CONTEXT})
    assert len(base64.b64decode(opened["plaintext"])) == 32


def test_rotates_and_rewraps(broker: Kms) -> None:
    old = wrapped(broker)
    broker.data("POST", f"transit/keys/{KEY}/rotate", {})
    newest = broker.data("GET", f"transit/keys/{KEY}")["latest_version"]
    new = broker.data("POST", f"transit/rewrap/{KEY}", {"ciphertext": old, "context": CONTEXT})["ciphertext"]
    assert not old.startswith(f"vault:v{newest}:")
    assert new.startswith(f"vault:v{newest}:")


def test_stores_wrapped_deks_under_check_and_set(broker: Kms) -> None:
    path = ENTRY.removesuffix("1") + "2"
    assert broker.call("POST", path, {"data": {"wrapped": "1"}, "options": {"cas": 0}}).ok
    assert broker.call("POST", path, {"data": {"wrapped": "2"}, "options": {"cas": 1}}).ok
    assert broker.data("GET", path)["data"] == {"wrapped": "2"}


@pytest.mark.parametrize("options", [{}, {"cas": 0}, {"cas": 7}])
def test_cannot_overwrite_a_wrapped_dek_unseen(broker: Kms, options: dict[str, int]) -> None:
    answer = broker.call("POST", ENTRY, {"data": {"wrapped": "x"}, "options": options})
    assert answer.status_code == 400
    assert broker.data("GET", ENTRY)["data"] == {"wrapped": "w"}


def test_renews_its_own_token(broker: Kms) -> None:
    assert broker.data("GET", "auth/token/lookup-self")["renewable"] is True
    assert broker.call("POST", "auth/token/renew-self", {}).ok


@pytest.mark.parametrize(
    ("method", "path", "body"), FORBIDDEN, ids=[f"{method} {path}" for method, path, _ in FORBIDDEN]
)
def test_is_denied_everything_else(broker: Kms, method: str, path: str, body: Any) -> None:
    answer = broker.call(method, path, body)
    assert answer.status_code == 403, answer.text
    assert "permission denied" in answer.text


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("path", ["transit/keys/theirs", "kv/data/theirs", "kv/config", ENTRY])
def test_what_is_denied_is_there(admin: Kms, path: str) -> None:
    """Else the denials would prove nothing about what belongs to others."""
    assert admin.call("GET", path).ok
