"""Shows the run's figures as a table for people and as JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Measure, Samples
from bench.peers import ALL
from bench.settings import SLOW_FRACTION, Settings
from bench.targets import Target

TITLES = {peer.name: peer.title for peer in ALL} | {
    "bare": "interpreter + import",
    "library": "its own library",
    "audited": "pg_envelope, audited",
    "adopted": "pg_envelope, in adoption",
    "clear": "pg_envelope, rule: clear",
    "masked": "pg_envelope, mask",
    "aesgcm": "AES-256-GCM alone",
    "hmac": "HMAC alone",
    "fernet": "Fernet",
    "age": "age",
    "text": "pg_envelope, as text",
}
VERDICTS = {True: "[green]met[/]", False: "[red]missed[/]", None: "not measured"}


@dataclass(frozen=True)
class Run:
    """All figures of one run. `missing` are peers that the server does not have."""

    settings: Settings
    server: str
    protect_seconds: float
    measures: Sequence[Measure]
    targets: Sequence[Target]
    missing: Sequence[str]
    health_checks: int
    load: tuple[float, float]


def console() -> Console:
    """Returns where the tables go. What is no terminal has room for the longest title beside the widest figures."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def show(run: Run, console: Console) -> None:
    """Prints tables and notes."""
    show_part(run.measures, run.targets, console)
    for line in _notes(run):
        console.print(line, style="dim", highlight=False)


def show_part(measures: Sequence[Measure], reached: Sequence[Target], console: Console) -> None:
    """Prints tables."""
    console.print(_figures(measures))
    console.print(_targets(reached))


def _figures(measures: Sequence[Measure]) -> Table:
    table = Table(title="Figures")
    table.add_column("what", no_wrap=True)
    table.add_column("who", no_wrap=True)
    for name in ("figure", "unit", "± noise", "× plain", "ours / it"):
        table.add_column(name, justify="right", no_wrap=True)
    for measure in measures:
        for place, (peer, samples) in enumerate(measure.peers.items()):
            table.add_row(*_row(measure, peer, samples, first=place == 0))
        table.add_section()
    return table


def _row(measure: Measure, peer: str, samples: Samples, *, first: bool) -> list[str]:
    ours = measure.ratio("ours", peer) if peer != "ours" else None
    return [
        measure.title if first else "",
        TITLES[peer],
        f"{samples.figure:,.0f}" if samples.figure >= 1000 else f"{samples.figure:.3g}",
        measure.unit,
        f"{samples.spread:.0%}",
        _ratio(measure.ratio(peer, "plain")),
        _ratio(ours),
    ]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 0.1 else f"1/{1 / value:.0f}" if value > 0 else "0"


def _targets(targets: Sequence[Target]) -> Table:
    table = Table("target", "limit", "reached", "", title="Targets")
    for target in targets:
        sign = "≥" if target.at_least else "≤"
        reached = "" if target.reached is None else _ratio(target.reached)
        table.add_row(target.text, f"{sign} {_ratio(target.limit)}", reached, VERDICTS[target.met])
    return table


def _notes(run: Run) -> list[str]:
    cpus, (before, after) = os.cpu_count(), run.load
    notes = [
        f"{run.settings.rows:,} rows, 3 protected columns, protected in {run.protect_seconds:.1f} s; {run.server}; "
        "no parallel plans, no JIT, fsync off; peers take turns.",
        "The figures are medians of all rounds, and of processor time (CPU) the lowest of three times as many.",
        f"pgp_sym_*: 1/{SLOW_FRACTION} of the rows, times per row. "
        f"The broker's own health checks of the KMS, which no statement waits for: {run.health_checks}.",
        "noise: half the distance of the quartiles, and of CPU the distance of the two lowest samples.",
        f"Load of this machine ({cpus} CPUs): {before:.1f} before, "
        f"{after:.1f} after" + ("; others were busy on it." if before > 0.5 else "."),
    ]
    return notes + [f"{TITLES[name]}: not installed in this server, not measured." for name in run.missing]


def as_json(run: Run) -> dict[str, Any]:
    """Returns the content of the file: all samples, so that other statistics can be made of them."""
    settings = asdict(run.settings)
    del settings["results"]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "pg_envelope": importlib.metadata.version("pg-envelope"),
            "commit": _commit(),
            "postgresql": run.server,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "settings": settings,
        "load": run.load,
        "protect_seconds": run.protect_seconds,
        "missing": list(run.missing),
        "kms_health_checks": run.health_checks,
        "measures": {measure.name: _measure_json(measure) for measure in run.measures},
        "targets": [asdict(target) | {"met": target.met} for target in run.targets],
    }


def _commit() -> str:
    """Returns the commit, with "-dirty" if the files differ from it; "unknown" outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _measure_json(measure: Measure) -> dict[str, Any]:
    peers = {
        name: {"figure": samples.figure, "spread": samples.spread, "samples": samples.values}
        for name, samples in measure.peers.items()
    }
    return {"title": measure.title, "unit": measure.unit, "more_is_better": measure.more_is_better, "peers": peers}


def write(run: Run) -> Path:
    """Writes the file, named by the time. Returns its path."""
    run.settings.results.mkdir(parents=True, exist_ok=True)
    content = as_json(run)
    path = run.settings.results / f"{content['date'].replace(':', '').replace('+0000', 'Z')}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path
