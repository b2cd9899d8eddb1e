"""PyKMIP's server as a process of its own, the certificates around it, and an administrator's client for it."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kmip.pie.client import ProxyKmipClient
    from kmip.pie.objects import SymmetricKey as SymmetricKey

# It lets 5 connections wait and drops others, which come back a second later: too long where tests share a machine.
# Its parts know each other by fork only, which is no longer how Python 3.14 starts processes.
SERVER = """
import multiprocessing, socket, sys, warnings
multiprocessing.set_start_method("fork")
warnings.simplefilter("ignore")
listen = socket.socket.listen
socket.socket.listen = lambda self, _: listen(self, 128)
from kmip.services.server.server import main
sys.exit(main())
"""
CONFIG = """[server]
hostname = 127.0.0.1
port = {port}
certificate_path = {directory}/server.pem
key_path = {directory}/server.key
ca_path = {directory}/ca.pem
auth_suite = TLS1.2
policy_path = {directory}
enable_tls_client_auth = True
logging_level = INFO
database_path = {directory}/kmip.db
"""
SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Signs certificates, and writes each as NAME.pem and NAME.key.

    They say of their keys what RFC 5280 asks for: from version 3.13 on, Python refuses others.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(True, None), True).add_extension(SIGNS, True)
        own = builder.sign(self._key, hashes.SHA256())
        (directory / f"{name}.pem").write_bytes(own.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, client: bool) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_name(name), self._name, key).add_extension(here, False).add_extension(signer, False)
        signed = builder.add_extension(x509.ExtendedKeyUsage([usage]), False).sign(self._key, hashes.SHA256())
        (self.directory / f"{name}.pem").write_bytes(signed.public_bytes(Encoding.PEM))
        private = self.directory / f"{name}.key"
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class KmipServer:
    """In a session of its own: it has processes of its own, which outlive it."""

    def __init__(self, directory: Path, port: int) -> None:
        config = directory / "server.conf"
        config.write_text(CONFIG.format(port=port, directory=directory))
        command = [sys.executable, "-c", SERVER, "-f", str(config), "-l", str(directory / "kmip.log")]
        with open(directory / "kmip.out", "wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def administrator(directory: Path, port: int) -> Iterator[Any]:
    """PyKMIP's own client, with the certificate `broker`."""
    with warnings.catch_warnings():
        # It opens TLS in a way that Python deprecates.
        warnings.simplefilter("ignore")
        client = ProxyKmipClient(
            "127.0.0.1", port, f"{directory}/broker.pem", f"{directory}/broker.key", f"{directory}/ca.pem"
        )
        with client:
            yield client


def answering(directory: Path, content: bytes, listener: Any) -> None:
    """One connection over TLS that is answered with these bytes, whatever it asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as connection:
        connection.recv(1 << 16)
        connection.sendall(content)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    serial, public = x509.random_serial_number(), key.public_key()
    builder = x509.CertificateBuilder(issuer, subject, public, serial, now - day, now + day)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
