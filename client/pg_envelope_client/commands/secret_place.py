"""Where the commands of secrets find and store them: in the database, or in Vault's KV engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pg_envelope_client import statements
from pg_envelope_client.commands.key_client import key_client, problems
from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.registry import BrokerAt, VaultAt

if TYPE_CHECKING:
    from pg_envelope_client.commands.options import StoreChoice
    from pg_envelope_client.sealing.client import KeyClient
    from pg_envelope_client.sealing.secrets import Secrets
    from pg_envelope_client.sealing.vault_secrets import VaultSecrets

TOKEN_FILE = "~/.vault-token"  # noqa: S105  # where `vault login` and `bao login` put it
DEFAULT_KEK = "default"


class NewKey(NamedTuple):
    """How the named key of a new secret is made in the database."""

    kek: str = DEFAULT_KEK
    store: StoreChoice | None = None


class SecretPlace(Protocol):
    """Reads by `secrets`. `store` returns the version's number."""

    secrets: Secrets

    def store(self, name: str, value: str | bytes) -> int: ...


class InDatabase:
    def __init__(self, client: KeyClient, dsn: str | None, new_key: NewKey) -> None:
        from pg_envelope_client.sealing.secrets import Secrets

        self._client, self._dsn, self._new_key = client, dsn, new_key
        self.secrets = Secrets(client)

    def store(self, name: str, value: str | bytes) -> int:
        """Seals and stores a value. Makes the named key first when there is none."""
        from pg_envelope import errors
        from pg_envelope_client.database import session

        try:
            self._client.named(name)
        except errors.NotPermitted:
            # Without the grant a role cannot tell whether there is such a key. Then the server refuses this, too.
            with session(self._dsn) as server:
                server.value(statements.create_key(name, self._new_key.kek, self._new_key.store))
        return self.secrets.store(name, value)


class InVault:
    def __init__(self, vault: VaultSecrets) -> None:
        from pg_envelope_client.sealing.secrets import Secrets

        self.secrets = Secrets(vault)

    def store(self, name: str, value: str | bytes) -> int:
        return self.secrets.store(name, value)


@contextmanager
def secret_place(
    broker_at: BrokerAt, vault_at: VaultAt, dsn: str | None, new_key: NewKey | None = None
) -> Iterator[SecretPlace]:
    """Yields Vault if its address is given, else the database. Raises Problem, also for what is raised inside."""
    if vault_at.address is not None:
        refuse_keys_of_database(new_key)
        with vault(vault_at) as found:
            yield InVault(found)
        return
    with key_client(broker_at, dsn) as client:
        yield InDatabase(client, dsn, new_key or NewKey())


@contextmanager
def vault(at: VaultAt) -> Iterator[VaultSecrets]:
    """Yields the KV engine. Raises Problem, also for every EnvelopeError inside."""
    try:
        from pg_envelope_client.sealing.vault_secrets import MOUNT, VaultSecrets
    except ImportError:
        raise Problem("hvac is not installed", hint="pip install 'pg-envelope[client,vault]'") from None
    with problems():
        made = VaultSecrets(
            at.address or "",
            token_file=_token_file(at),
            role_id_file=at.role_id_file,
            secret_id_file=at.secret_id_file,
            ca_file=at.ca_file,
            namespace=at.namespace or "",
            mount=at.mount or MOUNT,
            path=at.path or "",
        )
        with closing(made):
            yield made


def refuse_keys_of_database(new_key: NewKey | None) -> None:
    if new_key is not None and (new_key.store is not None or new_key.kek != DEFAULT_KEK):
        raise usage("--kek and --store are for secrets of the database, and Vault was asked for")


def _token_file(at: VaultAt) -> Path | None:
    if at.token_file is not None or at.role_id_file is not None or at.secret_id_file is not None:
        return at.token_file
    return Path(TOKEN_FILE).expanduser()
