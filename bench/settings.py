"""Holds the sizes of one run."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
# pgp_sym_* makes a key of its passphrase for each value. A fraction of the rows is enough, and its times are scaled.
SLOW_FRACTION = 100


@dataclass(frozen=True)
class Settings:
    """The sizes of a run. With `point_seconds` of 0 only a few transactions run."""

    rows: int = 200_000
    rounds: int = 8
    insert_rows: int = 10_000
    point_seconds: int = 2
    connections: int = 15
    cold_rounds: int = 3
    results: Path = RESULTS

    def rows_of(self, slow: bool, rows: int) -> int:
        """Returns `rows`, or for a slow peer a fraction of them."""
        return max(rows // SLOW_FRACTION, 1) if slow else rows


def parse(arguments: list[str] | None = None) -> Settings:
    """Returns the settings that the command line asks for."""
    default = Settings()
    parser = argparse.ArgumentParser(prog="bench", description="pg_envelope beside a plain table and its peers")
    parser.add_argument("--rows", type=int, default=default.rows, help="rows of each table")
    parser.add_argument("--rounds", type=int, default=default.rounds, help="rounds; their medians are the figures")
    parser.add_argument("--quick", action="store_true", help="tiny numbers: does it run? Its times mean nothing")
    parser.add_argument("--results", type=Path, default=default.results, help="folder for the JSON file")
    given = parser.parse_args(arguments)
    if given.quick:
        return Settings(min(given.rows, 200), 1, 20, 0, 1, 1, given.results)
    return Settings(rows=given.rows, rounds=given.rounds, results=given.results)
