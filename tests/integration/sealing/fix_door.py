"""The door of the stack's broker, an authority for applications, and clients with certificates of it."""

from __future__ import annotations

import datetime as dt
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pg_envelope_client import Broker, KeyClient
from stack.broker import toml
from stack.processes import free_port, private_file
from stack.stack import Stack
from stack.tls import make_certificates
from tests.fix_stack import Database

CRM = "URI:spiffe://shop.example/crm"
DAY = dt.timedelta(days=1)


class Authority:
    """Signs certificates of applications. All its files are in `directory`."""

    def __init__(self, directory: Path, name: str = "applications") -> None:
        self.directory, self._name = directory, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.revoked: list[int] = []
        made = self._signed(self._name, self._key, DAY, x509.BasicConstraints(ca=True, path_length=0))
        self.ca_file = directory / f"{name}-ca.pem"
        self._public(self.ca_file, made)

    def issue(self, *sans: str, life: dt.timedelta = DAY, usage: Any = ExtendedKeyUsageOID.CLIENT_AUTH) -> Path:
        """Writes a certificate with these names (URI:..., DNS:...), and its key beside it. Returns its path."""
        kinds = {"URI": x509.UniformResourceIdentifier, "DNS": x509.DNSName}
        names = [kinds[kind](name) for kind, _, name in (san.partition(":") for san in sans)]
        more = [x509.ExtendedKeyUsage([usage]), *([x509.SubjectAlternativeName(names)] if names else [])]
        key = ec.generate_private_key(ec.SECP256R1())
        found = self._signed(x509.Name([]), key, life, x509.BasicConstraints(ca=False, path_length=None), *more)
        path = self.directory / f"{found.serial_number}.pem"
        self._public(path, found)
        path.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def crl(self) -> Path:
        """Writes the list of the revoked certificates."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(now).next_update(now + DAY)
        )
        for serial in self.revoked:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(one)
        path = self.directory / "crl.pem"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        path.chmod(0o644)
        return path

    def _signed(self, subject: Any, key: Any, life: dt.timedelta, *extensions: Any) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + life)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def _public(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        path.chmod(0o644)


class DoorOfTests:
    """The door, open while a test runs. `allow` says what the application `crm` may have."""

    def __init__(self, db: Database, directory: Path) -> None:
        self.db, self.directory = db, directory
        self.broker = db.stack.broker
        self._earlier = self.broker.audit_log.stat().st_size
        self.authority = Authority(directory)
        make_certificates(directory, self.broker.account)
        self.address = f"127.0.0.1:{free_port()}"
        self._open: list[KeyClient | Broker] = []
        self.certificate = self.authority.issue(CRM)

    def allow(self, *fields: str, crm: dict[str, Any] | None = None, **settings: Any) -> None:
        """Starts the broker anew with a door at which `crm` may have the keys of these fields."""
        named = {f"field{number}": str(uuid) for number, uuid in enumerate(fields)}
        files = {
            "certificate_file": str(self.directory / "server.pem"),
            "key_file": str(self.directory / "server-key.pem"),
            "client_ca_file": str(self.authority.ca_file),
        }
        application = {"crm": {"san": CRM, "fields": named, **(crm or {})}}
        self.broker.configure({"door": {"listen": self.address, **files, **settings}, "application": application})
        self.broker.restart()

    def connect(self, certificate: Path | None = None, ca_file: Path | None = None) -> Broker:
        path = certificate or self.certificate
        made = Broker(
            f"tls://{self.address}",
            certificate_file=path,
            key_file=path.with_suffix(".key"),
            ca_file=ca_file or self.directory / "ca.pem",
        )
        self._open.append(made)
        return made

    def client(self, user: str = "alice", **options: Any) -> KeyClient:
        """A client whose connection to the database is that of an ordinary role."""
        asked = {"check_seconds": 0, **options}
        made = KeyClient(self.connect(), lambda: self.db.stack.connect(self.db.name, user), **asked)
        self._open.append(made)
        return made

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of this event in the audit log, since the test began."""
        lines = self.broker.audit_log.read_bytes()[self._earlier :].splitlines()
        return [found for found in map(json.loads, lines) if found["event"] == event]

    def grant(self, table: str, *columns: str, role: str = "alice") -> KeyClient:
        """Gives a role the columns, at the database and at the door. Returns a client of the role."""
        base = f"{table}_encrypted"
        self.db.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {base}, {table} TO {role}")
        self.allow(*(self.db.one("SELECT envelope.grant_client(%s, %s, %s)", table, one, role) for one in columns))
        return self.client(role)

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture(scope="module")
def door_place(stack: Stack) -> Iterator[Path]:
    """A folder for the files of the module's doors. The broker is as before when the module is over."""
    broker = stack.broker
    before = toml(broker.config())
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        try:
            yield Path(directory)
        finally:
            private_file(broker.config_file, before, broker.account)
            broker.restart()


@pytest.fixture
def door(db: Database, door_place: Path) -> Iterator[DoorOfTests]:
    """The stack's broker, with a door. Its configuration is as before when the test is over.

    The broker itself starts anew in the next test that opens a door. Until then the old door stays open, at an address
    that only this test knew.
    """
    broker = db.stack.broker
    before = broker.config()
    directory = Path(tempfile.mkdtemp(dir=door_place))
    directory.chmod(0o755)
    made = DoorOfTests(db, directory)
    try:
        yield made
    finally:
        made.close()
        after = broker.config()
        private_file(broker.config_file, toml(before), broker.account)
        if _without_door(after) != _without_door(before) or not broker.running:
            broker.restart()


def _without_door(config: dict[str, Any]) -> dict[str, Any]:
    return {name: table for name, table in config.items() if name not in ("door", "application")}
