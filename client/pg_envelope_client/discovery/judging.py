"""Judges a column by its name and a sample of its values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pg_envelope_client.discovery.shapes import SHAPES, Shape

# A name alone is a hint, where there are no values to look at or they have no form of their own.
NAMES = {
    "e-mail": r"e_?mail",
    "phone": r"phone|mobile|telefon|fax(_|$)",
    "IBAN": r"(^|_)iban",
    "card number": r"(^|_)pan$|card_?(no|num)|credit_?card",
    "social security number": r"(^|_)ssn|social_?sec|tax_?id|national_?id|passport",
    "date of birth": r"(^|_)dob$|birth|geburt",
    "API key or token": r"api_?key|secret|access_?token|refresh_?token|private_?key",
    "password": r"passw(or)?d|(^|_)pwd|passphrase",
    "name of a person": r"(first|last|sur|given|family|full|maiden)_?name",
    "address": r"street|postal|(^|_)zip(_?code)?$|(home|mail|billing)_?address",
    "health": r"diagnos|medical|blood_?type|icd_?10",
}
FEWEST = 5


@dataclass(frozen=True)
class Judgement:
    """The kind of data, the share of values that fit it (None: by the name alone), and how many values were seen."""

    kind: str
    share: float | None
    seen: int

    @property
    def by(self) -> str:
        return "name" if self.share is None else f"{self.share:.0%} of {self.seen} values"


def judge(column: str, values: Sequence[str]) -> Judgement | None:
    """Returns what a column holds, or None."""
    texts = [text for value in values if (text := value.strip())]
    by_values = (_judged(shape, texts) for shape in SHAPES)
    return next(filter(None, by_values), None) or _by_name(column, len(texts))


def _judged(shape: Shape, texts: Sequence[str]) -> Judgement | None:
    fitting = sum(map(shape.fits, texts))
    enough = len(texts) >= FEWEST or fitting == len(texts) > 0
    share = fitting / len(texts) if texts else 0.0
    return Judgement(shape.kind, share, len(texts)) if enough and share >= shape.share else None


def _by_name(column: str, seen: int) -> Judgement | None:
    name = re.sub(r"\W+|(?<=[a-z])(?=[A-Z])", "_", column).lower()
    kinds = (kind for kind, pattern in NAMES.items() if re.search(pattern, name))
    return next((Judgement(kind, None, seen) for kind in kinds), None)
