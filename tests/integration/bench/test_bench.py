"""`python -m bench --quick` runs to its end and says everything; its times mean nothing and are not looked at."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PEERS = {"plain", "ours", "pgcrypto_iv", "pgcrypto_pgp"}
EXPECTED = {
    **dict.fromkeys(("scan_1", "scan_3", "insert_select", "insert_single"), PEERS),
    **{f"point_{way}_{what}": {"plain", "ours"} for way in ("unix", "tcp") for what in ("column", "row")},
    **{name: {"plain", "bare", "ours"} for name in ("first_read", "memory")},
    "point_cpu": {"plain", "ours"},
    **{name: {"plain", "ours"} for name in ("update_open", "update_1", "update_3", "delete", "new_subject")},
    **{f"rls_{what}": {"plain", "ours"} for what in ("column", "row", "update")},
    **{f"named_{what}": {"plain", "ours"} for what in ("encrypt", "decrypt")},
    **{f"search_{what}": {"plain", "ours"} for what in ("small", "large", "any", "in", "insert")},
    **{f"search_made_{size}": {"ours"} for size in ("small", "large")},
    **{f"audited_{what}": {"ours", "audited"} for what in ("scan", "point", "cpu")},
    **{f"masked_{what}": {"ours", "clear", "masked"} for what in ("scan", "cpu")},
    **{f"adopted_{what}": {"pgcrypto_pgp", "ours"} for what in ("scan", "after")},
    **{f"adopted_{what}": {"library", "ours"} for what in ("fernet", "node_json")},
    "adopted_converted": {"ours", "adopted"},
    "adopted_convert": {"ours"},
    **{f"client_{what}": {"ours", "aesgcm", "fernet"} for what in ("seal", "open")},
    "client_token": {"ours", "hmac"},
    **{name: {"plain", "ours"} for name in ("client_bulk", "secret_cold")},
    **{name: {"ours"} for name in ("secret_cached", "file_seal", "file_open", "file_seal_cpu", "file_open_cpu")},
    **{f"vector_{what}": {"ours", "text"} for what in ("open", "stored", "memory")},
    "subjects": {"plain", "ours"},
    "subjects_asked": {"ours"},
    "cold": {"ours"},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a quick run prints, and its folder of results."""
    results = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench", "--quick", "--rows", "100", "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, results


@pytest.fixture(scope="module")
def written(ran: tuple[str, Path]) -> dict[str, Any]:
    (path,) = ran[1].iterdir()
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_every_measure_has_every_peer(written: dict[str, Any]) -> None:
    optional = {"pgsodium", "age"} - set(written["missing"])
    measured = {name: measure["peers"].keys() - optional for name, measure in written["measures"].items()}
    assert measured == EXPECTED


def test_every_sample_is_a_measurement(written: dict[str, Any]) -> None:
    measures = written["measures"]
    samples = [peer["samples"] for name in measures for peer in measures[name]["peers"].values()]
    assert all(samples)
    timed = [peer["samples"] for name in measures if name != "memory" for peer in measures[name]["peers"].values()]
    assert all(value > 0 for values in timed for value in values)


def test_every_target_is_judged_and_warm_reads_ask_the_kms_nothing(written: dict[str, Any]) -> None:
    assert len(written["targets"]) == 47
    there = [target for target in written["targets"] if shutil.which("age") or "/ age" not in target["text"]]
    assert all(target["met"] in (True, False) for target in there)
    (requests,) = (target["reached"] for target in written["targets"] if target["text"].startswith("KMS requests"))
    assert requests == 0


def test_the_table_names_everything(ran: tuple[str, Path], written: dict[str, Any]) -> None:
    for title in [measure["title"] for measure in written["measures"].values()]:
        assert title in ran[0]
    for target in written["targets"]:
        assert target["text"] in ran[0]
    for name in written["missing"]:
        assert f"{name} by key uuid: not installed" in ran[0]
