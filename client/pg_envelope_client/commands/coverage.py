"""pg-envelope discover and coverage: which columns should be protected, and whether those that must be are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import FAILED

if TYPE_CHECKING:
    from pg_envelope_client.discovery.sampling import SampledColumn

DISCOVERED = ("column", "kind", "by", "state")
COVERED = ("column", "state", "detail", "entry")
File = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The file envelope.toml.")]


def discover(
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="How many values of each column to look at.")] = 200,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a proposal for envelope.toml; it must not exist.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Find unprotected columns that look personal, by samples. It prints no value."""
    from pg_envelope_client.database import session
    from pg_envelope_client.discovery.sampling import samples

    with session(dsn) as server:
        columns = server.rows(statements.TABLE_COLUMNS)
        found = [row for sample in samples(server, columns, rows) if (row := _judged(sample)) is not None]
    if out is not None:
        _propose(out, columns, found)
    output.print_rows(found, DISCOVERED, "No unprotected column looks personal.")


def _judged(sample: SampledColumn) -> dict[str, object] | None:
    from pg_envelope_client.discovery.judging import judge

    judged = judge(sample.name, sample.values)
    name = f"{sample.schema}.{sample.relation}.{sample.name}"
    if sample.refused:
        kind = judged.kind if judged else ""
        return {"column": name, "kind": kind, "by": sample.refused, "share": None, "seen": 0, "state": "not checked"}
    if judged is None:
        return None
    told = {"kind": judged.kind, "by": judged.by, "share": judged.share, "seen": judged.seen}
    return {"column": name, **told, "state": "plaintext"}


def _propose(out: Path, columns: list[dict[str, Any]], found: list[dict[str, object]]) -> None:
    from pg_envelope_client.requirements import name_of, proposal

    entries = [(name_of(column), "is protected today") for column in columns if column["is_protected"]]
    entries += [(str(row["column"]), str(row["kind"])) for row in found if row["kind"]]
    with open(out, "x", encoding="utf-8") as file:
        file.write(proposal(entries))
    output.note(f"{out} is a proposal: look at each entry. Next: pg-envelope coverage {out}")


def coverage(file: File = Path("envelope.toml"), dsn: Dsn = None) -> None:
    """Check that the columns which FILE requires are protected; exit code 1 if one is not."""
    from pg_envelope_client.database import session
    from pg_envelope_client.requirements import compare, load

    entries = load(file)
    with session(dsn) as server:
        found = compare(entries, server.rows(statements.TABLE_COLUMNS))
    output.print_rows(found, COVERED, "No column is required to be protected.")
    if any(row["state"] == "failed" for row in found):
        raise typer.Exit(FAILED)
