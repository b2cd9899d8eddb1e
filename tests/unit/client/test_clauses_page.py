"""docs/report.md lists each clause with its facts, as the report's own data have them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pg_envelope_client.evidence import clauses
from pg_envelope_client.evidence.names import FrameworkName

PAGE = Path(__file__).parents[3] / "docs/report.md"
HEAD = "| clause | asks | facts |\n|---|---|---|\n"


def rows() -> Iterator[str]:
    for name in clauses.chosen([FrameworkName.ALL]):
        framework = clauses.load(name)
        for clause in framework["clause"]:
            listed = ", ".join(f"`{fact}`" for fact in clause["facts"])
            yield f"| {framework['name']} {clause['id']} | {clause['asks']} | {listed} |\n"


def test_the_page_has_the_clauses_and_their_facts() -> None:
    """PG_ENVELOPE_WRITE_GOLDEN=1 writes the table anew."""
    before, head, rest = PAGE.read_text().partition(HEAD)
    assert head
    held = "".join(line for line in rest.splitlines(True) if line.startswith("|"))
    wanted = "".join(rows())
    if os.environ.get("PG_ENVELOPE_WRITE_GOLDEN"):
        PAGE.write_text(before + head + wanted + rest[len(held) :])
    else:
        assert held == wanted
