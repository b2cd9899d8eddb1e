"""Makes the tokens of one search column in the application, as the server does."""

from __future__ import annotations

from pg_envelope_client.sealing.ring import KeyRing
from pg_envelope_client.sealing.search_layout import SearchLayout


class ColumnSearch:
    """The search key of one search column of a base table. None stays None.

    Who has it can make the token of any guess, and compare it with tokens from anywhere.
    """

    def __init__(self, ring: KeyRing, layout: SearchLayout) -> None:
        self._ring, self._layout = ring, layout

    def warm(self) -> None:
        """Loads the active key."""
        self._ring.to_search(self._layout)

    def token(self, value: object) -> bytes | None:
        """Returns the token of a value that is looked for: 16 bytes, which `OPERATOR(envelope_compare.=)` compares.

        Raises BadInput for a value of another type than the column's.
        """
        return None if value is None else self._made(self._layout.sought(value))[1]

    def stored(self, value: object) -> str | None:
        """Returns what goes into the search column beside the envelope of a value: the key id and the token.

        The base table takes it under the active key only, and stores the token. Raises BadInput as `seal` does.
        """
        if value is None:
            return None
        key_id, token = self._made(self._layout.stored(value))
        return f"\\x{key_id:08x}{token.hex()}"

    def _made(self, text: str) -> tuple[int, bytes]:
        content = self._layout.content(text)
        found = self._ring.to_search(self._layout)
        return found.key_id, found.key.token(content, self._layout.normalizer)
