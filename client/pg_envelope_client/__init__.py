"""The `pg-envelope` command, and what an application imports to seal and open values by itself."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pg_envelope_client.sealing.broker import Broker
    from pg_envelope_client.sealing.cache import SealedCache
    from pg_envelope_client.sealing.client import ColumnKey, KeyClient, NamedKey
    from pg_envelope_client.sealing.column_search import ColumnSearch
    from pg_envelope_client.sealing.documents import open_document, seal_document
    from pg_envelope_client.sealing.files import SealedReader, open_file, reseal_file, seal_file
    from pg_envelope_client.sealing.secrets import Secrets
    from pg_envelope_client.sealing.vault_secrets import VaultSecrets
    from pg_envelope_client.sealing.vectors import Vector

__all__ = [
    "Broker",
    "ColumnKey",
    "ColumnSearch",
    "KeyClient",
    "NamedKey",
    "SealedCache",
    "SealedReader",
    "Secrets",
    "VaultSecrets",
    "Vector",
    "open_document",
    "open_file",
    "reseal_file",
    "seal_document",
    "seal_file",
]

# They are imported at their first use: the command needs none of them, and starts quicker without.
PLACES = {
    "Broker": "broker",
    "ColumnKey": "client",
    "KeyClient": "client",
    "NamedKey": "client",
    "open_document": "documents",
    "seal_document": "documents",
    "SealedCache": "cache",
    "SealedReader": "files",
    "ColumnSearch": "column_search",
    "Secrets": "secrets",
    "VaultSecrets": "vault_secrets",
    "Vector": "vectors",
    "open_file": "files",
    "reseal_file": "files",
    "seal_file": "files",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.sealing.{PLACES[name]}"), name)
