"""Reads COLUMN[:bind=row|column][:suite=N][:pad][:force] of the command line as the jsonb for envelope.protect."""

from __future__ import annotations

from collections.abc import Sequence

from pg_envelope.suite_names import SUITE_NAMES
from pg_envelope_client.problems import usage

BINDS = ("row", "column")
SUITES = tuple(map(str, SUITE_NAMES))
FORM = f"COLUMN[:bind={'|'.join(BINDS)}][:suite={'|'.join(SUITES)}][:pad][:force]"

Options = dict[str, str | int | bool]


def parse_columns(specs: Sequence[str]) -> dict[str, Options]:
    """Returns {column: its options}. Options that were not given are left to the server's defaults."""
    columns: dict[str, Options] = {}
    for spec in specs:
        name, *options = spec.split(":")
        if not name:
            raise usage(f"no column name in {spec!r}", hint=FORM)
        if name in columns:
            raise usage(f"column {name!r} is given twice")
        columns[name] = _options(spec, options)
    return columns


def _options(spec: str, given: Sequence[str]) -> Options:
    options: Options = {}
    for text in given:
        name, value = _option(spec, text)
        if name in options:
            raise usage(f"{name!r} is given twice in {spec!r}")
        options[name] = value
    return options


def _option(spec: str, text: str) -> tuple[str, str | int | bool]:
    name, _, value = text.partition("=")
    if text in ("pad", "force"):
        return text, True
    if name == "bind" and value in BINDS:
        return name, value
    if name == "suite" and value in SUITES:
        return name, int(value)
    raise usage(f"{text!r} in {spec!r} is no column option", hint=FORM)
