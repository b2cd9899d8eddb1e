"""Serves triggers and operators of search columns: it makes the token of a stored value, and of a searched value."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from pg_envelope import buckets, errors, grams, leaf_paths, leaves
from pg_envelope.backend.authority import Authority
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.search import hot
from pg_envelope.backend.session_keys import SessionKeys
from pg_envelope.normalizers import kind_of, normalizer
from pg_envelope.tokens import EVERY_PATTERN, MOST_GRAMS, TokenKey

INPUT = "\\x"
# Ranges are remembered with their grams, of which each has some hundred.
MOST_RANGES = 100
ELSEWHERE = "Look for a part at one of its paths, which envelope.searches shows, or without the search column."
LONGER = "Write three characters or more between two wildcards. The beginning or the end of the value counts as one."


class Tokens:
    """One attribute per SQL function. A token leaves as the text that envelope_search.token reads; None stays None."""

    def __init__(
        self, guard: Guard, session_keys: SessionKeys, epoch: Epoch, authority: Authority, loader: Loader
    ) -> None:
        self._session_keys, self._authority, self._loader = session_keys, authority, loader
        self._slots: dict[int, bytes] = {}
        self._ranges: dict[tuple[int, str], tuple[TokenKey, str]] = {}
        self._normalizer = cache(normalizer)
        self.token = guard.plain(self._token)
        self.token_as_role = guard.plain(self._token_as_role)
        sought = hot.sought(self._slots, session_keys, epoch, self._made, guard.plain(self._sought))
        self.needle = hot.needle(sought)
        self.grams = guard.plain(self._grams)
        self.grams_as_role = guard.plain(self._grams_as_role)
        self.pattern = guard.plain(self._pattern)
        self.buckets = guard.plain(self._buckets)
        self.compare = hot.compare(sought)
        self.compare_needles = hot.compare_needles(sought)

    def _token(self, value: str | None, seal: bytes | None, normalize: str) -> str | None:
        """Returns the token of a value that is written, for a holder of the search key's seal. Raises NotPermitted."""
        if value is None:
            return None
        if seal is None:
            raise errors.NotPermitted
        return INPUT + self._of(seal, value, normalize).hex()

    def _token_as_role(self, value: str | None, search: str | None, normalize: str) -> str | None:
        if value is None:
            return None
        return self._token(value, self._authority.right("search", search or "").seal, normalize)

    def _grams(self, value: str | None, seal: bytes | None, normalize: str) -> str | None:
        """Returns the grams of a value that is written, as the text that envelope_search.grams reads. Raises
        NotPermitted.
        """
        if value is None:
            return None
        if seal is None:
            raise errors.NotPermitted
        key, runs = self._key(seal), self._runs(value, normalize)
        return _listed([EVERY_PATTERN] if runs is None else key.stored_grams(runs, normalize))

    def _runs(self, value: str, normalize: str) -> Iterable[str] | None:
        """Returns what a value is cut into. None: it has too many parts."""
        kind = kind_of(normalize)
        if kind == "range":
            return buckets.scale(normalize).of_value(value)
        if kind == "contains":
            return leaves.of_value(value, MOST_GRAMS, leaf_paths.of_name(normalize))
        return grams.of_text(self._normalizer(normalize)(value))

    def _grams_as_role(self, value: str | None, search: str | None, normalize: str) -> str | None:
        if value is None:
            return None
        return self._grams(value, self._authority.right("search", search or "").seal, normalize)

    def _pattern(self, key_id: int, pattern: str, normalize: str) -> str:
        """Returns the grams of all values that a pattern finds, or that contain a jsonb value. Raises BadInput."""
        if kind_of(normalize) == "contains":
            runs = leaves.of_part(pattern, leaf_paths.of_name(normalize))
            if not runs:
                raise errors.BadInput("the value has nothing at the paths of this search column", hint=ELSEWHERE)
        elif not (runs := grams.of_pattern(pattern)):
            raise errors.BadInput("the pattern is too short to be searched", hint=LONGER)
        return _listed(self._key_of(key_id).grams(runs, normalize))

    def _buckets(self, key_id: int, sought: str, normalize: str, kind: str) -> str:
        """Returns the grams of the buckets that cover a range, by its canonical text. `kind` is the values' type."""
        key = self._key_of(key_id)
        recent = self._ranges.get((key_id, sought))
        if recent is not None and recent[0] is key:
            return recent[1]
        made = _listed(key.grams(buckets.scale(normalize).of_range(sought, of_floats=kind == "float8"), normalize))
        if len(self._ranges) >= MOST_RANGES:
            self._ranges.clear()
        self._ranges[key_id, sought] = key, made
        return made

    def _sought(self, key_id: int, value: str, normalize: str) -> bytes:
        """Returns the token of a searched value. The operator has the right: it takes a value of the search column's
        type.
        """
        return self._made(self._key_of(key_id), value, normalize)

    def _key_of(self, key_id: int) -> TokenKey:
        slot = self._slots.get(key_id)
        if slot is None:
            slot = self._slots[key_id] = self._loader.search_slot(key_id)
        try:
            return self._key(slot)
        except errors.NotPermitted:
            # After a restore, the key catalog has new capabilities.
            del self._slots[key_id]
            raise

    def _of(self, slot: bytes, value: str, normalize: str) -> bytes:
        return self._made(self._key(slot), value, normalize)

    def _key(self, slot: bytes) -> TokenKey:
        """Asks for the key even when the token is remembered, so that a key that was taken away gives nothing. Raises
        NotPermitted.
        """
        key = self._session_keys.get(slot)
        if not isinstance(key, TokenKey):
            raise errors.NotPermitted
        return key

    def _made(self, key: TokenKey, value: str, normalize: str) -> bytes:
        return key.token(self._normalizer(normalize)(value).encode(), normalize)


def _listed(made: list[int]) -> str:
    return " ".join(map(str, made))
