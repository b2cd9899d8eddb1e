"""Collects the result of each DEK of a request. A DEK that fails does not stop the others."""

from __future__ import annotations

from typing import TypeVar

from pg_envelope import errors, wire
from pg_envelope.broker.keys.cache import CacheKey
from pg_envelope.broker.kms.providers.base import kek_version

T = TypeVar("T")


class Outcomes:
    """Keeps the errors. The other DEKs go on to the next step."""

    def __init__(self) -> None:
        self._failed: dict[CacheKey, errors.EnvelopeError] = {}

    def _sorted_out(self, results: dict[CacheKey, T | errors.EnvelopeError]) -> dict[CacheKey, T]:
        """Returns the DEKs that succeeded, and keeps the errors of the others."""
        found: dict[CacheKey, T] = {}
        for key, result in results.items():
            if isinstance(result, errors.EnvelopeError):
                self._failed[key] = result
            else:
                found[key] = result
        return found

    def _answer(self, key: CacheKey, wrapped: str | None, *, to_catalog: bool) -> wire.Message:
        """Returns the answer for a DEK: FORMAT.md section 4. The wrapped DEK goes back only to store `catalog`."""
        if key in self._failed or wrapped is None:
            return {"dek_id": key.dek_id, "error": wire.error_body(self._failed.get(key, errors.Internal()))}
        return {
            "dek_id": key.dek_id,
            "wrapped": wrapped if to_catalog else None,
            "kek_version": kek_version(wrapped),
        }
