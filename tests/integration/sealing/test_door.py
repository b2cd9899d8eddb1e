"""Who may come in at the door, and what may leave by it."""

from __future__ import annotations

import datetime as dt
import os
import signal
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pg_envelope import errors, wire
from pg_envelope.broker.door.door import HANDSHAKES
from pg_envelope.envelope import FieldKey, key_id
from pg_envelope_client import Broker
from stack.processes import StackError, run_as, wait_until
from tests.integration.sealing.fix_door import CRM, Authority, DoorOfTests

COLUMNS = "email", "phone"


@pytest.fixture
def shop(door: DoorOfTests) -> DoorOfTests:
    """A table with two protected columns. `crm` may have the key of the first, and alice reads the catalog of both."""
    db = door.db
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text, phone text)")
    db.sql("CALL envelope.protect('customer', '[\"email\", \"phone\"]')")
    uuids = [db.one("SELECT envelope.grant_client('customer', %s, 'alice')", column) for column in COLUMNS]
    door.allow(uuids[0])
    return door


def asked(broker: Broker, **message: Any) -> wire.Message:
    """The answer to a message that no client of ours would send."""
    context = broker._tls
    assert context is not None
    plain = socket.create_connection(broker._place, 10)
    with context.wrap_socket(plain, server_hostname=broker._place[0]) as connection:
        connection.sendall(wire.frame({"v": 1, "deadline_ms": 5000, "who": {"role": "dba"}, **message}))
        file = connection.makefile("rb")
        return wire.parse(file.read(wire.body_length(file.read(4))))


def test_an_application_gets_the_keys_that_it_may_have_and_no_others(shop: DoorOfTests) -> None:
    client = shop.client()
    email, phone = (client.field("customer", column) for column in COLUMNS)
    assert email.open(email.seal("a@b.c", 1), 1) == "a@b.c"
    with pytest.raises(errors.NotPermitted, match="may not have the key"):
        phone.seal("1234", 1)
    (refused,) = shop.events("application_refused")
    assert (refused["application"], refused["error"], refused["san"]) == ("crm", "not_permitted", [CRM])
    asking = [one for one in shop.events("request") if one["who"].get("application") == CRM]
    keys = [one for one in asking if one.get("key_ids")]
    assert [one["labels"] for one in keys] == [["field0"]]
    assert {one["who"]["role"] for one in asking} == {"crm"}
    assert {one["peer"]["application"] for one in asking} == {"crm"}


def refusal(broker: Broker) -> errors.EnvelopeError | None:
    try:
        broker.epoch()
    except (errors.NotPermitted, errors.Unavailable) as error:
        return error
    return None


def test_nothing_but_field_keys_leaves(shop: DoorOfTests) -> None:
    broker = shop.connect()
    for op in ("status", "generate", "sign", "flush", "keys_backup", "erase", "rewrap", "nonsense", None, 7):
        answer = asked(broker, op=op)
        assert (answer["ok"], answer["error"]["code"]) == (False, "not_permitted"), op
    answer = asked(broker, op="derive", database_uuid=str(UUID(int=0)), keys=[{}])
    assert answer["error"]["code"] == "bad_request"


def test_an_allowed_uuid_gives_no_key_of_another_column(shop: DoorOfTests) -> None:
    """The uuid is part of the derivation: under it, another column's key id gives a key that opens nothing."""
    db = shop.db
    db.sql("INSERT INTO customer VALUES (1, 'a@b.c', '1234')")
    sealed = db.one("SELECT phone FROM customer_encrypted")
    layouts = {name: shop.client().field("customer", name)._layout for name in COLUMNS}
    row = shop.client()._catalog.key(str(layouts["phone"].field), key_id(sealed), None)
    assert row is not None
    derived = shop.connect().derive(layouts["email"].database, row, layouts["email"].field, "customer.phone")
    for layout in layouts.values():
        with pytest.raises(errors.InvalidEnvelope):
            FieldKey(sealed[:6], layout.field.bytes, derived.key).open(sealed, b"1")


def test_who_may_come_in(shop: DoorOfTests, tmp_path: Path) -> None:
    other, issue = Authority(tmp_path, "others"), shop.authority.issue
    revoked = issue(CRM)
    shop.authority.revoked.append(x509.load_pem_x509_certificate(revoked.read_bytes()).serial_number)
    uuids = [shop.db.one("SELECT envelope.grant_client('customer', %s, 'alice')", column) for column in COLUMNS]
    crm = {"san": "DNS:crm.example", "fields": {"phone": str(uuids[1])}}
    shop.broker.configure({"application": {"second": crm}})
    shop.allow(uuids[0], crl_file=str(shop.authority.crl()))
    assert shop.connect().epoch()
    refused = {
        "another authority": other.issue(CRM),
        "expired": issue(CRM, life=-dt.timedelta(hours=1)),
        "for servers": issue(CRM, usage=ExtendedKeyUsageOID.SERVER_AUTH),
        "revoked": revoked,
        "unknown name": issue("URI:spiffe://shop.example/other"),
        "longer name": issue(f"{CRM}/x"),
        "no name": issue(),
        "two applications": issue(CRM, "DNS:crm.example"),
    }
    for what, certificate in refused.items():
        assert refusal(shop.connect(certificate)) is not None, what
    told = shop.events("application_refused")
    # The log counts equal refusals and does not list them: the first four are one line.
    assert [one.get("error") for one in told] == [None, *["not_permitted"] * 4]
    assert told[0]["reason"] == "CERTIFICATE_VERIFY_FAILED"
    assert shop.connect(issue("DNS:crm.example")).epoch()


@pytest.mark.parametrize("harm", ["no certificate", "TLS 1.2"])
def test_no_connection_without(shop: DoorOfTests, harm: str) -> None:
    context = ssl.create_default_context(cafile=str(shop.directory / "ca.pem"))
    if harm == "TLS 1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(shop.certificate, shop.certificate.with_suffix(".key"))
    host, port = shop.address.split(":")

    def exchange() -> bytes:
        with context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=host) as connection:
            connection.sendall(wire.frame({"v": 1, "op": "status", "deadline_ms": 1000, "who": {}}))
            if not (found := connection.recv(1)):
                raise EOFError
            return found

    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        exchange()


def test_a_client_meets_no_other_server_than_the_broker_s(shop: DoorOfTests, tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="door"):
        shop.connect(ca_file=Authority(tmp_path, "others").ca_file).epoch()


def test_limits_of_an_application(shop: DoorOfTests) -> None:
    uuid = shop.db.one("SELECT envelope.grant_client('customer', 'email', 'alice')")
    shop.allow(uuid, max_connections=2, keys_per_second=0.5)
    held = [shop.connect() for _ in range(3)]
    assert [broker.epoch() for broker in held[:2]]
    with pytest.raises(errors.Overloaded, match="connections"):
        held[2].epoch()
    held[1].close()
    client = shop.client()
    email = client.field("customer", "email")
    for _ in range(10):
        client.refresh()
        with suppress(errors.Overloaded):
            email.seal("a@b.c", 1)
    client.refresh()
    with pytest.raises(errors.Overloaded, match="too many keys"):
        email.seal("a@b.c", 1)


def test_the_unix_socket_is_as_before(shop: DoorOfTests) -> None:
    db = shop.db
    db.sql("INSERT INTO customer VALUES (1, 'a@b.c', '1234')")
    assert db.connect("postgres").execute("SELECT email, phone FROM customer").fetchall() == [("a@b.c", "1234")]


def test_check_looks_at_the_door(shop: DoorOfTests) -> None:
    broker = shop.broker
    check = [broker.venv / "bin/pg-envelope", "broker", "--check", "--config", broker.config_file]

    assert "door's certificates" in run_as(broker.account, check)
    (shop.directory / "server-key.pem").chmod(0o644)
    with pytest.raises(StackError, match="is open to others"):
        run_as(broker.account, check)


def test_strangers_who_say_nothing_keep_nobody_out(shop: DoorOfTests) -> None:
    """They hold more connections than the door shakes hands with at once. The application has another address."""
    host, port = shop.address.split(":")
    held = [socket.create_connection((host, int(port)), 10, ("127.0.0.2", 0)) for _ in range(HANDSHAKES + 10)]
    try:
        assert shop.connect().epoch()
    finally:
        for connection in held:
            connection.close()


def test_applications_together_have_a_limit_of_requests(shop: DoorOfTests) -> None:
    """The KMS hangs, so that a request stays under way; the next one is refused at once."""
    layout = shop.client().field("customer", "email")._layout
    row = shop.client()._catalog.key(str(layout.field), None, None)
    assert row is not None
    shop.allow(str(layout.field), max_requests=1)
    first, second = shop.connect(), shop.connect()
    assert first.epoch() == second.epoch()
    os.kill(shop.db.stack.openbao.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: first.derive(layout.database, row, layout.field, ""))
            wait_until(lambda: isinstance(refusal(second), errors.Overloaded), 30, "a refusal")
            assert isinstance(waiting.exception(), errors.Unavailable)
    finally:
        os.kill(shop.db.stack.openbao.pid, signal.SIGCONT)
