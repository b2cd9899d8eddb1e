"""Tells the walker which rows are not in their last form, and how they get it: see resealing.Work."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope.backend.jobs.faulty import fault
from pg_envelope.backend.jobs.resealing import Work
from pg_envelope.backend.rollout.proofs import PROTECT, UNPROTECT
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.generate import Layout, Protected, encrypted_as_role, opened_as_role
from pg_envelope.backend.tables.generate.expressions import clear_value, in_the_clear, is_null
from pg_envelope.records import dataclass


@dataclass(frozen=True)
class Sealing:
    """Makes envelopes of values in the clear."""

    layout: Layout
    careful: bool

    @property
    def any(self) -> str:
        return f"({' OR '.join(map(is_there, self.layout.in_rollout.values()))})"

    @property
    def movable(self) -> str:
        return self.any

    @property
    def values(self) -> dict[str, str]:
        return {name: self.envelope(found) for name, found in self.layout.in_rollout.items()}

    @property
    def emptied(self) -> dict[str, str]:
        return {name: plain for plain, name in self.layout.sources.items()}

    def envelope(self, protected: Protected) -> str:
        made = encrypted_as_role(self.layout, in_the_clear(protected), "t")
        return f"CASE WHEN {is_there(protected)} THEN {made} END"


def is_there(protected: Protected) -> str:
    """Returns the condition that a row has a value of before."""
    return f"NOT ({is_null(clear_value(protected, 't'))})"


@dataclass(frozen=True)
class Opening:
    """Makes values in the clear of envelopes. A value that does not open stays an envelope."""

    layout: Layout
    careful: bool

    @property
    def any(self) -> str:
        return f"({' OR '.join(map(_is_sealed, self.layout.protected))})"

    @property
    def movable(self) -> str:
        opens = (
            f"CASE WHEN {_is_sealed(name)} THEN {self._opens(name)} ELSE false END" for name in self.layout.in_rollout
        )
        return f"({' OR '.join(opens)})"

    @property
    def values(self) -> dict[str, str]:
        return {plain: self._value(name) for plain, name in self.layout.sources.items()}

    @property
    def emptied(self) -> dict[str, str]:
        return self.layout.sources

    def _opens(self, name: str) -> str:
        return f"{fault(self.layout, name, careful=self.careful)} IS NULL"

    def _value(self, name: str) -> str:
        value = opened_as_role(self.layout, self.layout.protected[name], "t")
        return f"CASE WHEN {_is_sealed(name)} THEN CASE WHEN {self._opens(name)} THEN {value} END END"


def _is_sealed(name: str) -> str:
    return f"t.{ident(name)} IS NOT NULL"


WORK: dict[str, Callable[[Layout, bool], Work]] = {PROTECT: Sealing, UNPROTECT: Opening}
