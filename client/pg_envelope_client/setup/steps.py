"""Collects the steps of init for the table that it prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

State = Literal["created", "already there", "updated", "kept", "not checked"]


@dataclass(frozen=True)
class SetupStep:
    what: str
    state: State
    detail: str


@dataclass
class Steps:
    """Collects steps in the order they were taken."""

    taken: list[SetupStep] = field(default_factory=list)

    def add(self, what: str, state: State, detail: str = "") -> None:
        self.taken.append(SetupStep(what, state, detail))

    def rows(self) -> list[dict[str, str]]:
        return [asdict(step) for step in self.taken]
