"""`python -m bench`: makes a stack of its own, takes all measures, and writes a table and a JSON file."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench import (
    adoption,
    application,
    audited,
    connections,
    inserts,
    kms,
    masked,
    points,
    report,
    rights,
    scans,
    searches,
    sodium,
    subjects,
    tables,
    targets,
    updates,
)
from bench.peers import ALL
from bench.settings import Settings, parse
from stack.processes import StackError
from stack.stack import Stack

# Disks differ and are shared. Without fsync the figures are of the work, not of the disk.
SERVER = {
    "shared_buffers": "512MB",
    "fsync": "off",
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
# What a stack alone is needed for.
PARTS = {
    "updates": updates.measure,
    "subjects": subjects.measure,
    "searches": searches.measure,
    "rights": rights.measure,
    "audited reads": audited.measure,
    "masked reads": masked.measure,
    "adoptions": adoption.measure,
}


def main() -> None:
    settings = parse()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="pg_envelope-bench-") as place:
        stack = Stack(Path(place) / "stack", postgres_settings=SERVER | sodium.server_settings(Path(place)))
        try:
            with console.status("starting PostgreSQL, OpenBao and the broker ..."):
                stack.up()
            run = _measured(stack, settings, console)
        except StackError as error:
            sys.exit(f"bench: {error}")
        finally:
            stack.down()
    report.show(run, report.console())
    console.print(f"All samples: {report.write(run)}", highlight=False, soft_wrap=True)


def _measured(stack: Stack, settings: Settings, console: Console) -> report.Run:
    load = os.getloadavg()[0]
    with stack.connect() as connection, console.status("loading ...") as status:
        peers, protect_seconds = tables.make(connection, settings)
        tables.check(connection, peers)
        before = kms.requests(stack)
        status.update("full scans ...")
        measures = scans.measure(connection, peers, settings)
        status.update("inserts ...")
        measures += inserts.measure(connection, peers, settings)
        status.update("point reads ...")
        measures += points.measure(stack, settings)
        status.update("new connections ...")
        measures += connections.measure(stack, settings)
        for_keys, health_checks = kms.split(kms.requests(stack) - before)
        for what, measure in PARTS.items():
            status.update(f"{what} ...")
            measures += measure(stack, settings)
        status.update("cold reads ...")
        measures.append(connections.cold(stack, settings))
        # The last, because it restarts the broker.
        status.update("applications ...")
        measures += application.measure(stack, settings)
        version = connection.execute("SHOW server_version").fetchone()
    return report.Run(
        settings=settings,
        server=f"PostgreSQL {version[0] if version else ''}",
        protect_seconds=protect_seconds,
        measures=measures,
        targets=targets.evaluate(measures, for_keys),
        health_checks=health_checks,
        missing=[peer.name for peer in ALL if peer not in peers],
        load=(load, os.getloadavg()[0]),
    )


if __name__ == "__main__":
    main()
