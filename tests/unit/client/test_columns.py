"""COLUMN[:option]... of the command line."""

from __future__ import annotations

import pytest

from pg_envelope_client.columns import parse_columns
from pg_envelope_client.problems import USAGE, Problem


@pytest.mark.parametrize(
    ("specs", "columns"),
    [
        (["email"], {"email": {}}),
        (["email:pad"], {"email": {"pad": True}}),
        (
            ["a:bind=column:suite=2:pad", "b:bind=row"],
            {"a": {"bind": "column", "suite": 2, "pad": True}, "b": {"bind": "row"}},
        ),
        (["a:suite=4:bind=column:force"], {"a": {"suite": 4, "bind": "column", "force": True}}),
        (["Größe; DROP TABLE x"], {"Größe; DROP TABLE x": {}}),
    ],
)
def test_accepts(specs: list[str], columns: dict[str, object]) -> None:
    assert parse_columns(specs) == columns


@pytest.mark.parametrize(
    "specs",
    [
        [""],
        [":pad"],
        ["a:"],
        ["a:bind"],
        ["a:bind=table"],
        ["a:suite=6"],
        ["a:force=true"],
        ["a:suite=01"],
        ["a:suite"],
        ["a:pad=yes"],
        ["a:pad:pad"],
        ["a:suite=1:suite=2"],
        ["a:index"],
        ["a", "a:pad"],
    ],
)
def test_refuses(specs: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        parse_columns(specs)
    assert caught.value.exit_code == USAGE
