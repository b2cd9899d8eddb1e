"""Refuses searches whose tokens would be as good as the values. A query cannot count the values before the adoption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pg_envelope import errors
from pg_envelope.backend.search.advice import FORCE
from pg_envelope.backend.search.leakage import Value, leakage
from pg_envelope.backend.search.options import SearchWanted
from pg_envelope.foreign.reader import is_utf8
from pg_envelope.normalizers import kind_of, normalizer


def refuse(column: str, searches: Iterable[SearchWanted], contents: Sequence[bytes]) -> None:
    """`contents` are those of a sample. Raises Unsupported."""
    texts = [content.decode() for content in contents if is_utf8(content)]
    for search in searches:
        found = leakage(_counted(texts, search.normalize))
        if found.verdict == "REFUSE" and not search.force:
            raise errors.Unsupported(
                f"the tokens of column {column} would give its values away; nothing was changed",
                detail=found.sentence,
                hint=f"{FORCE} An index of the column asks for tokens, too: docs/adopt.md.",
            )


def _counted(texts: Sequence[str], normalize: str) -> list[Value]:
    """Counts equal values. The attacker knows how common they are from one half of the sample, and reads the other."""
    normal = normalizer(normalize) if kind_of(normalize) == "exact" else str
    known, attacked = (Counter(map(normal, texts[half::2])) for half in (0, 1))
    return [Value(known[text], attacked[text]) for text in known | attacked]
