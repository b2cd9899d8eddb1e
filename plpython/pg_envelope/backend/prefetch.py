"""Fetches the keys of many tenants or subjects at once (envelope.prefetch()), before a query that needs them one by
one.
"""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.session_keys import MAX_KEYS, SessionKeys


class Prefetch:
    """Asks with the caller's right to the columns. The keys of a column that the role may not read are not fetched."""

    def __init__(self, host: Host, loader: Loader, session_keys: SessionKeys) -> None:
        self._host, self._loader, self._session_keys = host, loader, session_keys

    def keys(self, rel: str | None, scopes: list[str | None] | None) -> int:
        """Returns how many keys of these tenants or subjects the session holds now. Raises NotPermitted, BadInput."""
        if rel is None:
            raise errors.BadInput("prefetch() needs a table")
        view = self._host.relation(rel)
        wanted = list(dict.fromkeys(scope for scope in scopes or [] if scope is not None))
        if len(wanted) > MAX_KEYS:
            raise errors.BadInput(f"a session holds {MAX_KEYS} keys", hint="Read in several parts.")
        return self._session_keys.fill(lambda: self._loader.prefetch(view, wanted))

    def of_texts(self, view: int, texts: list[str]) -> int:
        """Fetches those that the session lacks, for a view's OID and canonical texts. Returns how many these were."""
        return self._session_keys.fill(lambda: self._loader.prefetch_texts(view, texts, self._session_keys))
