"""Each way in which a broker cannot reach its KMS or log in has a cause of its own in `--check`, without a secret."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pg_envelope.broker.check import check

from .conftest import Bao, Broker, free_port, private

Role = dict[str, str]
Spoil = Callable[[Bao, Path, Role], None]


def finding(broker: Broker) -> tuple[str, str]:
    """Detail and hint of the KEK that failed."""
    (found,) = [one for one in check(broker.config) if one.name == "kek default"]
    assert found.state == "failed"
    return found.detail, found.hint or ""


def put(path: str, text: str) -> None:
    Path(path).write_text(text)


def wrapped(bao: Bao) -> str:
    """A secret_id as `bao write -wrap-ttl=5m` gives it."""
    with requests.Session() as session:
        session.trust_env = False
        headers = {"X-Vault-Token": bao.token, "X-Vault-Wrap-TTL": "300"}
        answer = session.post(f"{bao.address}/v1/auth/approle/role/wrapped/secret-id", headers=headers, timeout=10)
        return str(answer.json()["wrap_info"]["token"])


def a_wrapped_secret_id(bao: Bao, _: Path, role: Role) -> None:
    bao.api("POST", "auth/approle/role/wrapped", token_policies="broker")
    put(role["secret_id_file"], wrapped(bao))


def a_used_up_secret_id(bao: Bao, _: Path, role: Role) -> None:
    bao.api("POST", "auth/approle/role/once", token_policies="broker", secret_id_num_uses=1)
    secret = bao.api("POST", "auth/approle/role/once/secret-id")["secret_id"]
    role_id = bao.api("GET", "auth/approle/role/once/role-id")["role_id"]
    bao.api("POST", "auth/approle/login", role_id=role_id, secret_id=secret)
    put(role["role_id_file"], role_id)
    put(role["secret_id_file"], secret)


def another_role(bao: Bao, directory: Path, role: Role) -> None:
    other = directory / "other"
    other.mkdir()
    put(role["role_id_file"], Path(bao.role(other)["role_id_file"]).read_text())


def a_role_for_other_addresses(bao: Bao, _: Path, role: Role) -> None:
    bao.api("POST", "auth/approle/role/far", token_policies="broker", secret_id_bound_cidrs="10.99.0.0/16")
    put(role["role_id_file"], bao.api("GET", "auth/approle/role/far/role-id")["role_id"])
    put(role["secret_id_file"], bao.api("POST", "auth/approle/role/far/secret-id")["secret_id"])


def an_empty_file(_: Bao, __: Path, role: Role) -> None:
    put(role["secret_id_file"], "\n")


def a_file_that_is_gone(_: Bao, __: Path, role: Role) -> None:
    Path(role["secret_id_file"]).unlink()


def a_file_for_all(_: Bao, __: Path, role: Role) -> None:
    Path(role["secret_id_file"]).chmod(0o644)


def another_mount(_: Bao, __: Path, role: Role) -> None:
    role["mount"] = "approle-eu"


@pytest.mark.parametrize(
    ("spoil", "cause", "hint"),
    [
        (a_wrapped_secret_id, "wrapped secret_id", "bao unwrap"),
        (a_used_up_secret_id, "used up or expired", "auth/approle/role/ROLE/secret-id"),
        (another_role, "role_id or secret_id is wrong", "both files of one role"),
        (a_role_for_other_addresses, "this machine's address", "secret_id_bound_cidrs"),
        (an_empty_file, "holds no text", "broker's user"),
        (a_file_that_is_gone, "No such file", "broker's user"),
        (a_file_for_all, "open to others (mode 0644)", "chmod 0600"),
        (another_mount, "no logins at auth/approle-eu", "mount"),
    ],
)
def test_a_login_that_fails(
    make_broker: Callable[..., Broker], bao: Bao, directory: Path, spoil: Spoil, cause: str, hint: str
) -> None:
    role = bao.role(directory)
    spoil(bao, directory, role)
    said, advice = finding(make_broker(bao, auth=role))
    assert said.startswith("the broker cannot log in to the KMS: ")
    assert cause in said
    assert hint in advice
    for name in ("role_id_file", "secret_id_file"):
        path = Path(role[name])
        secret = path.read_text().strip() if path.exists() else ""
        assert not secret or secret not in said + advice


def test_a_token_that_is_over(make_broker: Callable[..., Broker], bao: Bao, directory: Path) -> None:
    token = bao.request("POST", "auth/token/create", {"policies": ["broker"]}).json()["auth"]["client_token"]
    bao.api("POST", "auth/token/revoke", token=token)
    auth = {"method": "token", "token_file": str(private(directory / "token", token))}
    said, advice = finding(make_broker(bao, auth=auth))
    assert "expired, revoked or no token of this KMS" in said
    assert "Put a new token" in advice
    assert token not in said + advice


def test_a_policy_that_is_missing_is_not_called_a_login(make_broker: Callable[..., Broker], own_bao: Bao) -> None:
    broker = make_broker(own_bao)
    own_bao.api("POST", "sys/policies/acl/broker", policy='path "kv/data/x" { capabilities = ["read"] }')
    said, advice = finding(broker)
    assert "the login is good, but its policy does not allow this request" in said
    assert "pg-envelope init" in advice


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"transit_mount": "transit-eu"}, "does not allow this request"),
        ({"namespace": "nowhere"}, "there is no such namespace"),
        ({"address": "https://no-such-host.invalid:8200"}, "its host name is unknown (DNS)"),
        ({"address": f"https://127.0.0.1:{free_port()}"}, "nothing listens at its address and port"),
    ],
)
def test_a_kms_that_is_elsewhere(
    make_broker: Callable[..., Broker], bao: Bao, settings: dict[str, str], cause: str
) -> None:
    assert cause in finding(make_broker(bao, kms=settings))[0]


def test_clear_text_where_tls_is_expected(make_broker: Callable[..., Broker], bao: Bao) -> None:
    broker = make_broker(bao, kms={"address": bao.address.replace("http:", "https:")})
    assert "speaks no TLS" in finding(broker)[0]


@contextlib.contextmanager
def tls_server(certificate: Path, key: Path) -> Iterator[int]:
    """Shakes hands, and says nothing; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, contextlib.suppress(OSError), context.wrap_socket(peer, server_side=True):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def certificate(directory: Path, begins: int, ends: int, name: x509.GeneralName) -> tuple[Path, Path]:
    """A certificate that signs itself, good from `begins` to `ends` in days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([name]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / f"{os.urandom(4).hex()}.pem", directory / f"{os.urandom(4).hex()}.key"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.mark.parametrize(
    ("days", "host", "trusted", "cause"),
    [
        ((-9, -1), "localhost", True, "has expired"),
        ((1, 9), "localhost", True, "is not valid yet"),
        ((-1, 9), "kms.example", True, "is for another host name"),
        ((-1, 9), "localhost", False, "is not from the CA in ca_file"),
    ],
)
def test_a_certificate_that_is_not_fit(
    make_broker: Callable[..., Broker],
    bao: Bao,
    directory: Path,
    days: tuple[int, int],
    host: str,
    trusted: bool,
    cause: str,
) -> None:
    own, key = certificate(directory, *days, x509.DNSName(host))
    stranger, _ = certificate(directory, -1, 9, x509.DNSName(host))
    with tls_server(own, key) as port:
        settings: dict[str, Any] = {
            "address": f"https://localhost:{port}",
            "ca_file": str(own if trusted else stranger),
        }
        said, _ = finding(make_broker(bao, kms=settings))
    assert f"TLS failed: its certificate {cause}" in said
