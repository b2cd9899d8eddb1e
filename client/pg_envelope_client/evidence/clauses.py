"""Reads the clauses of the frameworks, and says what the facts show of each."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from pg_envelope_client.evidence.names import FrameworkName


def load(name: FrameworkName) -> dict[str, Any]:
    """Returns a framework: name, title, and `clause`, a list of id, asks, facts and unknown."""
    return tomllib.loads(files(__package__).joinpath(f"frameworks/{name.value}.toml").read_text(encoding="utf-8"))


def chosen(names: Iterable[FrameworkName]) -> list[FrameworkName]:
    wanted = set(names)
    return [one for one in FrameworkName if one is not FrameworkName.ALL and wanted & {one, FrameworkName.ALL}]


def judged(names: Iterable[FrameworkName], holds: Mapping[str, bool | None]) -> list[dict[str, Any]]:
    """Returns the clauses with their verdicts. `holds` tells of each fact whether it holds."""
    loaded = [load(name) for name in chosen(names)]
    return [
        {"framework": framework["name"], **clause, "verdict": verdict([holds[fact] for fact in clause["facts"]])}
        for framework in loaded
        for clause in framework["clause"]
    ]


def verdict(holds: Iterable[bool | None]) -> str:
    """One fact that does not hold disproves. All must hold to show. Otherwise a person must look."""
    found = set(holds)
    if False in found:
        return "disproved"
    if found == {True}:
        return "shown"
    return "partly" if True in found else "unknown"
