"""`python -m bench.page FILE`: writes the figures of docs/costs.md from a run's JSON file."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs/costs.md"
BEGIN, END = "<!-- figures: written by python -m bench.page -->", "<!-- end of figures -->"
PEERS = (
    "plain",
    "ours",
    "pgcrypto_iv",
    "pgcrypto_pgp",
    "pgsodium",
    "bare",
    "library",
    "audited",
    "clear",
    "masked",
    "adopted",
)
HEADS = (
    "plain",
    "pg_envelope",
    "`decrypt_iv`",
    "`pgp_sym_*`",
    "pgsodium",
    "interpreter + import",
    "its own library",
    "audited",
    "rule: clear",
    "mask",
    "in adoption",
)
# The measures of applications have a table of their own, with these columns.
APPLICATION, OF_APPLICATION = "application: ", ("client_", "secret_", "file_", "vector_")
ITS_PEERS = ("plain", "ours", "aesgcm", "hmac", "fernet", "age", "text")
ITS_HEADS = ("plain", "pg_envelope", "AES-256-GCM alone", "HMAC alone", "Fernet", "age", "as text")
VERDICTS = {True: "met", False: "missed", None: "not measured"}
WIDTH = 120
BUSY = " Others kept the machine busy: the ratios tell more than the times, and CPU more than the time on a clock."
Run = dict[str, Any]


def figures(run: Run) -> str:
    """Returns the text between BEGIN and END: where it was measured, the figures, the targets."""
    return "\n".join([BEGIN, "", *_where(run), "", *_measures(run), "", *_targets(run), "", END])


def _where(run: Run) -> list[str]:
    versions, settings, (before, after) = run["versions"], run["settings"], run["load"]
    missing = f" Not installed there: {', '.join(run['missing'])}." if run["missing"] else ""
    text = (
        f"Measured on {run['date'][:10]} at commit {versions['commit']}: {versions['postgresql']},"
        f" {versions['cpus']} processors ({versions['machine']}), load {before:.1f} before and {after:.1f} after,"
        f" {settings['rows']:,} rows, {settings['rounds']} rounds: medians,"
        f" and of CPU the lowest of three times as many.{missing}"
    )
    busy = BUSY if max(before, after) > versions["cpus"] else ""
    return textwrap.wrap(text + busy, WIDTH, break_long_words=False, break_on_hyphens=False)


def _measures(run: Run) -> list[str]:
    """Returns a table of what runs in the server, and one of what runs in applications, where that was measured."""
    of_application = [one for name, one in run["measures"].items() if name.startswith(OF_APPLICATION)]
    of_server = [one for one in run["measures"].values() if one not in of_application]
    table = _table("what", of_server, PEERS, HEADS)
    return (
        [*table, "", *_table("in the application", of_application, ITS_PEERS, ITS_HEADS)] if of_application else table
    )


def _table(what: str, measures: list[Run], known: tuple[str, ...], titles: tuple[str, ...]) -> list[str]:
    peers = [peer for peer in known if any(peer in measure["peers"] for measure in measures)]
    heads = [head for peer, head in zip(known, titles, strict=True) if peer in peers]
    table = [f"| {what} | unit | {' | '.join(heads)} | × plain |", "|" + "---|" * (len(heads) + 3)]
    return [*table, *(_line(measure, peers) for measure in measures)]


def _line(measure: Run, peers: list[str]) -> str:
    figures = {name: samples["figure"] for name, samples in measure["peers"].items()}
    cells = [_number(figures[peer]) if peer in figures else "" for peer in peers]
    times = f"{figures['ours'] / figures['plain']:.2f}" if figures.get("plain") else ""
    return f"| {measure['title'].removeprefix(APPLICATION)} | {measure['unit']} | {' | '.join(cells)} | {times} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _targets(run: Run) -> list[str]:
    lines = ["| target | limit | reached | |", "|---|---|---|---|"]
    for target in run["targets"]:
        sign = "≥" if target["at_least"] else "≤"
        reached = "" if target["reached"] is None else f"{target['reached']:.3g}"
        verdict = VERDICTS[target["met"]]
        lines.append(f"| {target['text']} | {sign} {target['limit']:.3g} | {reached} | {verdict} |")
    return lines


def written(page: str, run: Run) -> str:
    """Returns the page with the figures of `run`. Raises ValueError for a page without their place."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has no place for figures")
    return f"{head}{figures(run)}{tail}"


def main() -> None:
    run = json.loads(Path(sys.argv[1]).read_text())
    PAGE.write_text(written(PAGE.read_text(), run))


if __name__ == "__main__":
    main()
