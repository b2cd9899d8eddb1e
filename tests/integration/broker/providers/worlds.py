"""Each provider with what stands behind it, and how that goes down, comes back and says no."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import boto3
import pkcs11
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.oauth2.service_account import Credentials as Account
from pkcs11 import Attribute, KeyType, MechanismFlag

from pg_envelope.broker.kms.providers import keyring_file
from pg_envelope.broker.kms.providers.azure import Azure
from pg_envelope.broker.kms.providers.base import Provider
from pg_envelope.broker.kms.providers.kmip_wire import enums as kmip_enums
from pg_envelope.broker.kms.providers.make import make_provider
from pg_envelope.broker.settings import kms as kms_settings
from stack import processes, tls
from tests.integration.broker.conftest import PATIENCE, PATIENCE_MS
from tests.integration.broker.providers import fake_azure, fake_google
from tests.integration.broker.providers.kmip_server import Authority, KmipServer, SymmetricKey, administrator
from tests.integration.broker.providers.relay import Relay

SOFTHSM = next(
    (p for p in map(Path, ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so")) if p.exists()), None
)


class World:
    """Two KEKs, `key` and `other`, and `secrets`, which no exception and no log may show."""

    goes_down = True
    can_hang = False
    can_deny = True
    rotates = True
    key, other = "first", "second"
    # What a wrap that belongs to another key is answered with.
    foreign: ClassVar[set[str]] = {"unwrap_failed"}
    secrets: tuple[str, ...] = ()
    settings: Any

    def provider(self) -> Provider:
        return make_provider(self.settings, lambda error: None)

    def down(self) -> None:
        raise NotImplementedError

    def hang(self) -> None:
        raise NotImplementedError

    def up(self) -> None:
        raise NotImplementedError

    def deny(self) -> None:
        raise NotImplementedError

    def allow(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Frees what the world holds."""


class Remote(World):
    """Behind a relay."""

    can_hang = True
    relay: Relay

    def down(self) -> None:
        self.relay.cut()

    def hang(self) -> None:
        self.relay.hang()

    def up(self) -> None:
        self.relay.mend()

    def stop(self) -> None:
        self.relay.cut()


class VaultWorld(Remote):
    def __init__(self, directory: Path, bao: Any, policy: str) -> None:
        self.bao, self.policy, self.relay = bao, policy, Relay(bao.port)
        self.allow()
        self.key, self.other = (bao.new_kek(f"conformance-{number}") for number in (1, 2))
        auth = bao.role(directory, "conformance")
        files = {name: Path(auth[name]) for name in ("role_id_file", "secret_id_file")}
        address = f"http://127.0.0.1:{self.relay.port}"
        self.settings = kms_settings.VaultSettings(address, kms_settings.AppRole(**files), timeout_ms=PATIENCE_MS)
        self.secrets = tuple(path.read_text().strip() for path in files.values())

    def deny(self) -> None:
        self.bao.api("POST", "sys/policies/acl/conformance", policy='path "none" { capabilities = ["read"] }')

    def allow(self) -> None:
        # What moving a DEK here from another KEK needs on top.
        policy = self.policy + 'path "transit/encrypt/*" { capabilities = ["update"] }\n'
        self.bao.api("POST", "sys/policies/acl/conformance", policy=policy)


class KeyringWorld(World):
    def __init__(self, directory: Path) -> None:
        self.keyring, self.passphrase = directory / "keyring", directory / "passphrase"
        keyring_file.create_keyring(self.keyring, "correct horse battery", 1 << 14)
        for name in (self.key, self.other):
            keyring_file.add_kek(self.keyring, "correct horse battery", name)
        self.allow()
        self.settings = kms_settings.KeyringSettings(self.keyring, self.passphrase)
        self.secrets = ("correct horse battery", "another passphrase")

    def down(self) -> None:
        self.keyring.rename(self.keyring.with_name("away"))

    def up(self) -> None:
        self.keyring.with_name("away").rename(self.keyring)

    def deny(self) -> None:
        self._write("another passphrase")

    def allow(self) -> None:
        self._write("correct horse battery")

    def _write(self, passphrase: str) -> None:
        self.passphrase.touch(mode=0o600)
        self.passphrase.write_text(passphrase)
        # The provider reads again when the keyring changes.
        os.utime(self.keyring)


class SecretsWorld(World):
    goes_down = can_deny = rotates = False

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        names = ("TEST_BASE", "TEST_PURPOSE_FIRST", "TEST_PURPOSE_SECOND")
        self.secrets = tuple(base64.b64encode(os.urandom(30)).decode() for _ in names)
        for name, secret in zip(names, self.secrets, strict=True):
            patch.setenv(name, secret)
        self.settings = kms_settings.SecretsSettings("TEST_BASE", "TEST_PURPOSE")


class AwsWorld(Remote):
    """Against moto's server: real HTTP, real AES-GCM with the encryption context, keys and access keys as in AWS."""

    # moto says AccessDenied where AWS says IncorrectKey or InvalidCiphertext: those are in test_aws.
    foreign: ClassVar[set[str]] = {"unwrap_failed", "kms_denied"}

    def __init__(self, patch: pytest.MonkeyPatch, port: int) -> None:
        self.direct, self.relay = f"http://127.0.0.1:{port}", Relay(port)
        self.secrets = ("AKIDEXAMPLE", "wJalrXUtnFEMI-K7MDENG-EXAMPLEKEY")
        patch.setenv("AWS_ACCESS_KEY_ID", self.secrets[0])
        patch.setenv("AWS_SECRET_ACCESS_KEY", self.secrets[1])
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        self.kms = boto3.client("kms", region_name="eu-central-1", endpoint_url=self.direct)
        self.key, self.other = self.make(), self.make()
        endpoint = f"http://127.0.0.1:{self.relay.port}"
        self.settings = kms_settings.AwsSettings("eu-central-1", endpoint, timeout_ms=PATIENCE_MS)

    def deny(self) -> None:
        self._unsigned_requests(0)

    def allow(self) -> None:
        self._unsigned_requests(1 << 40)

    def make(self, **options: str) -> str:
        made = self.kms.create_key(**{"KeyUsage": "ENCRYPT_DECRYPT", **options})
        return str(made["KeyMetadata"]["KeyId"])

    def _unsigned_requests(self, count: int) -> None:
        """How many requests moto takes before it asks IAM, which knows no user here."""
        requests.post(f"{self.direct}/moto-api/reset-auth", data=str(count), timeout=PATIENCE).raise_for_status()

    def stop(self) -> None:
        super().stop()
        self.kms.close()


class Pkcs11World(World):
    """Against SoftHSM2, which has its tokens in a directory."""

    label: ClassVar[str] = "conformance"

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        assert SOFTHSM is not None
        self.tokens, self.pin_file = directory / "tokens", directory / "pin"
        self.tokens.mkdir()
        (directory / "softhsm2.conf").write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\n")
        patch.setenv("SOFTHSM2_CONF", str(directory / "softhsm2.conf"))
        self.secrets = ("pin-0-6482-1", "pin-9-9999-9")
        command = ["softhsm2-util", "--init-token", "--free", "--label", self.label]
        subprocess.run([*command, "--pin", self.secrets[0], "--so-pin", "12345678"], check=True, capture_output=True)
        self.allow()
        # The module may have been started for an earlier world.
        pkcs11.lib(str(SOFTHSM)).reinitialize()
        for name in (self.key, self.other):
            self.make(name)
        self.settings = kms_settings.Pkcs11Settings(SOFTHSM, self.label, self.pin_file, PATIENCE_MS)

    def session(self) -> Any:
        token = pkcs11.lib(str(SOFTHSM)).get_token(token_label=self.label)
        try:
            return token.open(rw=True, user_pin=self.secrets[0])
        except pkcs11.UserAlreadyLoggedIn:
            return token.open(rw=True)

    def make(self, name: str, version: int = 1, bits: int = 256, **attributes: bool) -> None:
        """As pkcs11-tool --keygen does."""
        template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        template.update({Attribute[attribute]: value for attribute, value in attributes.items()})
        number, able = version.to_bytes(4, "big"), MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
        session = self.session()
        session.generate_key(KeyType.AES, bits, id=number, label=name, store=True, capabilities=able, template=template)
        session.close()

    def down(self) -> None:
        self.tokens.rename(self.tokens.with_name("away"))
        self.tokens.mkdir()

    def up(self) -> None:
        shutil.rmtree(self.tokens)
        self.tokens.with_name("away").rename(self.tokens)

    def deny(self) -> None:
        self._write(self.secrets[1])

    def allow(self) -> None:
        self._write(self.secrets[0])

    def _write(self, pin: str) -> None:
        self.pin_file.unlink(missing_ok=True)
        self.pin_file.touch(mode=0o600)
        self.pin_file.write_text(pin + "\n")


class AzureWorld(Remote):
    """Against our own fake of Key Vault's REST calls, through the real SDK."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        tls.make_certificates(directory, processes.Account.ours(), (f"*.{fake_azure.HOST.partition('.')[2]}",))
        self.fake = fake_azure.FakeAzure((str(directory / "server.pem"), str(directory / "server-key.pem")))
        self.relay = Relay(self.fake.port)
        self.fake.public_port = self.relay.port
        for name in (self.key, self.other):
            self.fake.make(name)
        resolve = socket.getaddrinfo

        def to_loopback(host: Any, *arguments: Any, **options: Any) -> Any:
            return resolve("127.0.0.1" if host == fake_azure.HOST else host, *arguments, **options)

        patch.setattr(socket, "getaddrinfo", to_loopback)
        url = f"https://{fake_azure.HOST}:{self.relay.port}"
        self.settings = kms_settings.AzureSettings(url, str(directory / "ca.pem"), PATIENCE_MS)
        self.secrets = (fake_azure.TOKEN,)

    def provider(self) -> Provider:
        return Azure(self.settings, fake_azure.Credential())

    def deny(self) -> None:
        self.fake.refusing = 403

    def allow(self) -> None:
        self.fake.refusing = None

    def stop(self) -> None:
        super().stop()
        self.fake.stop()


class GoogleWorld(Remote):
    """Against our own fake of Cloud KMS's REST calls, through the real client and a real service account's login."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.fake = fake_google.FakeGoogle()
        self.relay = Relay(self.fake.port)
        for name in (self.key, self.other):
            self.fake.make(name)
        endpoint = f"http://127.0.0.1:{self.relay.port}"
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        account = {"type": "service_account", "project_id": "p1", "private_key": pem, "private_key_id": "1"}
        account.update(
            client_email="broker@p1.example", token_uri=f"{endpoint}/token", universe_domain="googleapis.com"
        )
        (directory / "account.json").write_text(json.dumps(account))
        # A look-up at a fixed address of Google's, of what matters to Google only.
        patch.setattr(Account, "_is_regional_access_boundary_lookup_required", lambda self: False)
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(directory / "account.json"))
        self.settings = kms_settings.GoogleSettings(fake_google.RING, endpoint, PATIENCE_MS)
        self.secrets = (fake_google.TOKEN, pem.splitlines()[1])

    def deny(self) -> None:
        self.fake.refusing = 403

    def allow(self) -> None:
        self.fake.refusing = None

    def stop(self) -> None:
        super().stop()
        self.fake.stop()


class KmipWorld(Remote):
    """Against PyKMIP's server, over mutual TLS."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.direct = directory, port
        authority = Authority(directory, "ca")
        authority.issue("server", client=False)
        for name in ("broker", "colleague"):
            authority.issue(name, client=True)
        # What the broker shows is a copy, so that it can be another's.
        self.shown = directory / "shown.pem", directory / "shown.key"
        self.allow()
        self.server = KmipServer(directory, port)
        self.relay = Relay(port)
        files = {"certificate_file": self.shown[0], "key_file": self.shown[1], "ca_file": str(directory / "ca.pem")}
        self.settings = kms_settings.KmipSettings("127.0.0.1", port=self.relay.port, timeout_ms=PATIENCE_MS, **files)
        self.secrets = tuple((directory / f"{name}.key").read_text().splitlines()[1] for name in ("broker", "server"))

    def admin(self) -> Any:
        return administrator(self.directory, self.direct)

    def create(self, name: str) -> None:
        """As docs/providers.md says."""
        with self.admin() as client:
            client.activate(client.create(kmip_enums.CryptographicAlgorithm.AES, 256, name=name))

    def make(
        self,
        name: str,
        *,
        bits: int = 256,
        kind: str = "AES",
        uses: tuple[str, ...] = ("ENCRYPT", "DECRYPT"),
        active: bool = True,
    ) -> str:
        """The id of a key from elsewhere: one that PyKMIP's client creates always has both uses."""
        algorithm = kmip_enums.CryptographicAlgorithm[kind]
        masks = [kmip_enums.CryptographicUsageMask[use] for use in uses]
        with self.admin() as client:
            uid = client.register(SymmetricKey(algorithm, bits, os.urandom(bits // 8), masks, name))
            if active:
                client.activate(uid)
        return str(uid)

    def revoke(self, uid: str) -> None:
        with self.admin() as client:
            client.revoke(kmip_enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid)

    def show(self, name: str) -> None:
        for path in self.shown:
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_bytes((self.directory / f"{name}{path.suffix}").read_bytes())

    def deny(self) -> None:
        """The server's own certificate is not one for clients."""
        self.show("server")

    def allow(self) -> None:
        self.show("broker")

    def stop(self) -> None:
        super().stop()
        self.server.stop()


def start_moto(port: int, log: Path) -> subprocess.Popen[bytes]:
    """moto's server as a process of its own; its warnings and its patches of botocore are not ours."""
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        return subprocess.Popen(command, stdout=out, stderr=out)
