"""What is printed cannot steer the terminal, and JSON stays JSON."""

from __future__ import annotations

import json

import pytest

from pg_envelope_client import output
from pg_envelope_client.problems import Problem


def test_control_characters_are_replaced() -> None:
    assert output.plain("a\x1b[2J\x07\u202eb\n\tc") == "a?[2J??b\n\tc"
    assert output.plain(None) == ""
    assert output.plain(7) == "7"


def test_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([{"state": "ok", "detail": "[red]x[/red]"}], ("state", "detail"), "none")
    assert "[red]x[/red]" in capsys.readouterr().out


def test_lists_and_booleans_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([{"granted_to": ["a", "b"], "pad": False}], ("granted_to", "pad"), "none")
    printed = capsys.readouterr().out
    assert "a, b" in printed
    assert "no" in printed.splitlines()[3]


def test_problem_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_problem(Problem("m", "d", "h"))
    printed = capsys.readouterr()
    assert printed.err == "error: m\nDETAIL: d\nHINT: h\n"
    assert printed.out == ""


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json([{"name": "größe\x1b", "empty": None}])
    assert json.loads(capsys.readouterr().out) == [{"name": "größe\x1b", "empty": None}]
