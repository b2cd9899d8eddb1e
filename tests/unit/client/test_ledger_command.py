"""pg-envelope ledger on a real ledger: what it finds, shows and exports, and its exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pg_envelope import ring
from pg_envelope.broker.ledger.read_ledger import ReadLedger
from pg_envelope.broker.ledger.rings import Rings


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pg_envelope_client", "ledger", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger of three events, one of which was counted twice."""
    tmp_path.chmod(0o700)
    path = tmp_path / "reads.jsonl"
    ledger = ReadLedger(path, "test", str(tmp_path / "anchor"))
    rings = Rings(ledger)
    descriptor, memory = ring.create()
    words = ring.words(memory)
    attached = rings.attach(descriptor, ring.id_of(memory), {"database": "d", "client": "10.0.0.1"}, 7)
    names = [("alice", "email", "till"), ("bob", "email", "=cmd()"), ("alice", "phone", "till")]
    for seq, (user, column, application) in enumerate(names, 1):
        facts = {"time": seq * 10**15, "user": user, "table": "public.customer", "column": column}
        ring.write(memory, words, seq, json.dumps({**facts, "application": application}).encode())
        words[ring.slot(seq) + ring.COUNT] = 10 * seq
        rings.drain()
    words[ring.slot(1) + ring.COUNT] = 15
    ring.add_row(memory, words, 1, b"42")
    rings.detach(attached)
    rings.close()
    return path


def key(file: Path) -> str:
    return file.with_name("reads.jsonl.pub").read_text().strip()


def test_verify_holds(file: Path) -> None:
    done = run("verify", file, "--public-key", key(file), "--anchor", file.with_name("anchor"))
    assert done.returncode == 0, done.stderr
    assert "3 events" in done.stdout
    told = json.loads(run("verify", file, "--public-key", key(file), "--json").stdout)
    assert (told["events"], told["problems"], told["lines"]) == (3, [], told["signed"])


def test_verify_finds_a_change(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"alice", b"mallory", 1))
    done = run("verify", file, "--public-key", key(file))
    assert done.returncode == 1
    assert "are not those of a checkpoint" in done.stdout


@pytest.mark.parametrize("key", ["", "x", "a+b+c"])
def test_a_bad_key_is_told(file: Path, key: str) -> None:
    done = run("verify", file, "--public-key", key)
    assert done.returncode == 1
    assert "not the public key" in done.stderr


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("2033", 2),
        ("2033-06", 1),
        ("2033-05-18", 2),
        ("2033-05-18T03:33:20", 2),
        ("2033-05-18T03:33:21Z", 1),
        ("2033-05-18T05:33:20+02:00", 2),
        ("2033-05-18T04:33:20+02:00", 2),
        ("2033-05-18T03:33:20-02:00", 1),
        ("2065-02-01", 0),
    ],
)
def test_since_is_a_moment(file: Path, since: str, count: int) -> None:
    assert len(shown(file, "--since", since)) == count


@pytest.mark.parametrize("since", ["yesterday", "2033-13-01", "18.05.2033", "203", "zz"])
def test_a_time_that_is_none_hides_no_events(file: Path, tmp_path: Path, since: str) -> None:
    """Else a slip of the pen would show no reads."""
    for words in (["show", file], ["export", file, "--out", tmp_path / "out"]):
        done = run(*words, "--since", since)
        assert (done.returncode, done.stdout) == (1, ""), done.stdout
        assert "is no time" in done.stderr


def test_an_event_whose_time_cannot_be_read_is_shown(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"2001-09-09T01:46:40.", b"2001-99-99T01:46:40."))
    assert len(shown(file, "--since", "2065-02-01")) == 1


def shown(file: Path, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(run("show", file, *words, "--json").stdout))


def test_show_has_the_last_counts(file: Path) -> None:
    assert [(event["user"], event["count"]) for event in shown(file)] == [("alice", 15), ("bob", 20), ("alice", 30)]
    assert shown(file)[0]["rows"] == ["42"]
    assert "bob" in run("show", file).stdout


def test_show_takes_a_part(file: Path) -> None:
    assert [event["count"] for event in shown(file, "--user", "bob")] == [20]
    assert [event["count"] for event in shown(file, "--column", "customer.phone")] == [30]
    assert [event["count"] for event in shown(file, "--column", "phone")] == [30]
    assert [event["count"] for event in shown(file, "--column", "hone")] == []
    assert [event["count"] for event in shown(file, "--since", "2033")] == [20, 30]


def test_export_as_lines_and_as_csv(file: Path, tmp_path: Path) -> None:
    lines, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    assert run("export", file, "--out", lines).returncode == 0
    assert [json.loads(line)["count"] for line in lines.read_text().splitlines()] == [15, 20, 30]
    assert run("export", file, "--out", table, "--format", "csv").returncode == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["count"] for row in rows] == ["15", "20", "30"]
    assert rows[1]["application"] == "'=cmd()", "a spreadsheet must not run it"


def test_export_overwrites_nothing(file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("kept")
    assert run("export", file, "--out", there).returncode == 1
    assert there.read_text() == "kept"
