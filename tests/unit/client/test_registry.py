"""What every command has: -h, --json, errors as JSON, libpq's options; and what a pipe gets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from pg_envelope_client import cli, output
from pg_envelope_client.problems import Problem

from .test_cli import nowhere, run

__all__ = ["nowhere"]


def below(words: list[str], found: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of every command below `words`, with what typer made of it."""
    if hasattr(found, "commands"):
        for name, inner in found.commands.items():
            yield from below([*words, name], inner)
    else:
        yield tuple(words), found


ALL = [(list(words), found) for words, found in below([], typer.main.get_command(cli.commands))]
NAMES = [" ".join(words) for words, _ in ALL]
# They use files of the broker's machine only.
WITHOUT_SERVER = {"init", "broker", "keys-backup init", "erasures list", "erasures export", "erasures import"}
WITHOUT_SERVER |= {"ledger verify", "ledger show", "ledger export", "backups verify"}


def options(found: Any) -> set[str]:
    return {option for parameter in found.params for option in getattr(parameter, "opts", ())}


@pytest.mark.parametrize(("words", "found"), ALL, ids=NAMES)
def test_every_command_has_json_and_libpq_s_options(words: list[str], found: Any) -> None:
    assert "--json" in options(found)
    connects = {"--dsn", "--host", "--port", "-p", "--username", "-U", "--dbname", "-d", "--password", "-W"}
    assert connects & options(found) == (set() if " ".join(words) in WITHOUT_SERVER else connects)


def test_the_list_of_commands_is_not_empty() -> None:
    assert {"status", "key list", "keys-backup return", "tenant kek"} <= set(NAMES)


@pytest.mark.parametrize(("words", "found"), ALL, ids=NAMES)
def test_a_command_alone_is_the_command_among_all(words: list[str], found: Any) -> None:
    """Of the tree that `narrowed` leaves, only this command; with options after it, too."""
    alone = dict(below([], typer.main.get_command(cli.commands.narrowed([*words, "--json"]))))
    assert list(alone) == [tuple(words)]
    one = alone[tuple(words)]
    assert (one.name, one.help, one.get_short_help_str()) == (found.name, found.help, found.get_short_help_str())
    assert [vars_of(each) for each in one.params] == [vars_of(each) for each in found.params]


def vars_of(parameter: Any) -> tuple[Any, ...]:
    return (parameter.name, parameter.opts, parameter.required, parameter.default, parameter.type_descriptor.annotation)


@pytest.mark.parametrize("words", [[], ["--version"], ["-h", "key"], ["nothing"], ["key", "nothing"], ["key", "-h"]])
def test_words_that_name_no_command_leave_all_that_could_be_meant(words: list[str]) -> None:
    whole = [path for path, _ in below([], typer.main.get_command(cli.commands.narrowed(words)))]
    group = words[:1] == ["key"]
    assert whole == [tuple(path) for path, _ in ALL if not group or path[0] == "key"]


def test_a_command_with_json_does_not_load_rich(nowhere: dict[str, str]) -> None:
    begin = "import sys; sys.argv[1:] = ['key', 'list', '--json']; from pg_envelope_client.cli import app"
    code = f"{begin}\ntry: app()\nexcept SystemExit as end: print(end.code, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, text=True, check=False)
    assert done.stdout == "1 False\n"


@pytest.mark.parametrize("option", [["--dsn"], ["--host"], ["--dbname"]])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_bytes_that_are_no_text(option: list[str], as_json: list[str]) -> None:
    done = run("key", "list", *option, "a\udcff", *as_json)
    assert done.returncode == 2
    assert "not text in UTF-8" in done.stderr


@pytest.mark.parametrize("words", [[], ["key"], ["key", "list"], ["keys-backup", "return"]], ids=" ".join)
def test_h_is_help(words: list[str]) -> None:
    short, long = run(*words, "-h"), run(*words, "--help")
    assert (short.returncode, short.stderr) == (0, "")
    assert short.stdout == long.stdout
    assert "Usage: pg-envelope" in short.stdout.replace("-c", "pg-envelope")


def test_nothing_at_all_is_help() -> None:
    done = run()
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr


def error_of(done: Any) -> dict[str, Any]:
    found = json.loads(done.stderr.splitlines()[-1])
    assert set(found) == {"error"}
    assert done.stdout == ""
    return dict(found["error"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["key", "grant", "k"], "Missing argument 'ROLE'"),
        (["status", "--wrong"], "No such option: --wrong"),
        (["reencrypt", "t", "--jobs", "0"], "greater than or equal to 1"),
        (["broker", "--config", "x"], "--json goes with --check"),
        (["protect", "t", "email:suite=9"], "'suite=9' in 'email:suite=9' is no column option"),
        (["status", "-W"], "there is no terminal to ask for the password"),
    ],
)
def test_a_misuse_is_json(words: list[str], message: str) -> None:
    done = run(*words, "--json")
    error = error_of(done)
    assert (done.returncode, error["exit_code"]) == (2, 2)
    assert message in error["message"]
    assert error["hint"]


def test_an_error_is_json(nowhere: dict[str, str]) -> None:
    done = run("key", "list", "--json", **nowhere)
    error = error_of(done)
    assert (done.returncode, error["exit_code"], error["message"]) == (1, 1, "cannot connect to PostgreSQL")
    assert "Is the server up" in error["hint"]


def test_options_overrule_the_environment_and_the_dsn(nowhere: dict[str, str]) -> None:
    other = {**nowhere, "PGHOST": "/nowhere", "PGPORT": "1"}
    ours = ("--host", nowhere["PGHOST"], "-p", nowhere["PGPORT"], "-d", "shop", "-U", "dba")
    for dsn in ((), ("--dsn", "host=/elsewhere port=2 dbname=x user=y")):
        done = run("status", *dsn, *ours, **other)
        assert f"port {nowhere['PGPORT']} failed" in done.stderr
        assert "where" not in done.stderr.replace("nowhere_", "").split("HINT")[0]


def test_options_with_a_dsn_that_is_none(nowhere: dict[str, str]) -> None:
    done = run("status", "--dsn", "password=s3cret nonsense", "-d", "shop", **nowhere)
    assert (done.returncode, "--dsn is not a connection string" in done.stderr) == (2, True)
    assert "s3cret" not in done.stderr


def test_completion() -> None:
    done = run(_PG_ENVELOPE_COMPLETE="complete_bash", COMP_WORDS="pg-envelope key ro", COMP_CWORD="2")
    assert "rotate" in done.stdout.split()
    assert "grant" not in done.stdout.split()


WIDE = {"name": "n" * 150, "state": "compromised", "detail": "some words that a narrow table would wrap " * 6}


@pytest.mark.parametrize("columns", ["20", "80"])
def test_a_pipe_gets_each_row_on_one_line(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    output.print_rows([WIDE] * 6, tuple(WIDE), "none")
    lines = [line for line in capsys.readouterr().out.splitlines() if "compromised" in line]
    assert len(lines) == 6
    assert all(str(value).strip() in line for line in lines for value in WIDE.values())


@pytest.fixture
def machine() -> Iterator[None]:
    output.machine(True)
    yield
    output.machine(False)


@pytest.mark.usefixtures("machine")
def test_what_a_machine_reads(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("for people")
    output.note("beside")
    output.done("It is done.", deks=3)
    output.print_problem(Problem("m", "d", "h", sqlstate="42501"))
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"deks": 3}
    notice, error = map(json.loads, printed.err.splitlines())
    assert notice == {"notice": "beside"}
    assert error["error"] == {"message": "m", "detail": "d", "hint": "h", "sqlstate": "42501", "exit_code": 1}


@pytest.mark.usefixtures("machine")
def test_no_rows_are_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([], ("name",), "Nothing.")
    assert json.loads(capsys.readouterr().out) == []
