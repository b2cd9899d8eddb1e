"""The KV of a real OpenBao as the anchor of checkpoints: nothing there can be changed, and verify finds what was."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from pg_envelope import reads_check
from pg_envelope.broker.ledger.read_ledger import ReadLedger, event
from pg_envelope.checkpoints import PublicKey

from .conftest import PATIENCE, POLICY, Bao, Broker, wait_until

PLACE = "pg_envelope_anchor/{}"
CREATE_ONLY = 'path "kv/data/pg_envelope_anchor/*" { capabilities = ["create", "read"] }\n'


@pytest.fixture
def environment(bao: Bao) -> str:
    """One of its own, since the server is shared."""
    bao.api("POST", "sys/policies/acl/anchoring", policy=POLICY + CREATE_ONLY)
    return f"e{uuid.uuid4().hex[:8]}"


@pytest.fixture
def anchored(bao: Bao, environment: str, make_broker: Callable[..., Broker], directory: Path) -> Broker:
    settings = {"environment": environment, "reads_anchor": "kv:main"}
    return make_broker(bao, auth=bao.role(directory, "anchoring"), broker=settings)


def ledger(broker: Broker) -> Path:
    return broker.directory / "reads.jsonl"


def public(broker: Broker) -> PublicKey:
    return PublicKey.parse(ledger(broker).with_name("reads.jsonl.pub").read_text())


def listed(bao: Bao, place: str) -> list[str]:
    answer = bao.request("LIST", f"kv/metadata/{place}")
    return [name.rstrip("/") for name in answer.json()["data"]["keys"]] if answer.ok else []


def places(bao: Bao, environment: str) -> list[str]:
    """The entries of all keys."""
    top = PLACE.format(environment)
    return [f"{top}/{key}/{size}" for key in listed(bao, top) for size in listed(bao, f"{top}/{key}")]


def sizes(bao: Bao, environment: str) -> list[str]:
    return [place.rpartition("/")[2] for place in places(bao, environment)]


def fetched(bao: Bao, environment: str, to: Path) -> Path:
    """What an auditor does: each entry into one file."""
    notes = [bao.api("GET", f"kv/data/{place}")["data"]["note"] for place in places(bao, environment)]
    to.write_text("\n".join(notes))
    return to


def lived(broker: Broker, bao: Bao, environment: str, lines: int) -> None:
    """A life of the broker that adds so many lines."""
    broker.ready()
    wait_until(lambda: sizes(bao, environment))
    for _ in range(lines):
        overdrawn(broker)
    broker.stop()


def overdrawn(broker: Broker) -> None:
    """A limit of reads that somebody reaches: one line."""
    spend = {"field": str(uuid.uuid4()), "user": "u", "rows": 1, "seconds": 60, "refuses": True, "wanted": 2}
    assert broker.good("spend", **spend)["granted"] == 1
    assert broker.good("spend", **spend)["granted"] == 0


def test_each_checkpoint_is_there_and_stays(anchored: Broker, bao: Bao, environment: str, tmp_path: Path) -> None:
    lived(anchored, bao, environment, 3)
    lived(anchored, bao, environment, 0)
    lived(anchored, bao, environment, 4)
    assert sizes(bao, environment) == ["000000000000", "000000000003", "000000000007"]
    found = reads_check.check(ledger(anchored), public(anchored), [fetched(bao, environment, tmp_path / "anchor")])
    assert (found.problems, found.lines, found.anchored) == ([], 7, 7)


def test_the_login_of_the_broker_changes_and_deletes_nothing(anchored: Broker, bao: Bao, environment: str) -> None:
    lived(anchored, bao, environment, 2)
    login = {name: (anchored.directory / name).read_text().strip() for name in ("role_id", "secret_id")}
    token = bao.request("POST", "auth/approle/login", login).json()["auth"]["client_token"]
    place = f"{PLACE.format(environment)}/{public(anchored).id.hex()}/000000000002"

    def tried(method: str, kind: str, body: object = None) -> int:
        with requests.Session() as session:
            session.trust_env = False
            kind_of_body = "application/merge-patch+json" if method == "PATCH" else "application/json"
            session.headers.update({"X-Vault-Token": token, "Content-Type": kind_of_body})
            return session.request(
                method, f"{bao.address}/v1/kv/{kind}/{place}", json=body, timeout=PATIENCE
            ).status_code

    before = bao.api("GET", f"kv/data/{place}")
    assert tried("GET", "data") == 200
    for body in ({"data": {"note": "x"}}, {"data": {"note": "x"}, "options": {"cas": 1}}):
        assert tried("POST", "data", body) == tried("PATCH", "data", body) == 403
    assert tried("POST", "data", {"data": {"note": "x"}, "options": {"cas": 0}}) in (400, 403)
    assert tried("DELETE", "data") == tried("DELETE", "metadata") == 403
    for kind in ("delete", "undelete", "destroy"):
        assert tried("POST", kind, {"versions": [1]}) == 403
    assert tried("POST", "metadata", {"max_versions": 1}) == 403
    assert bao.api("GET", f"kv/data/{place}") == before


def test_a_new_ledger_of_as_many_lines_is_no_change(
    anchored: Broker, bao: Bao, environment: str, tmp_path: Path
) -> None:
    """As docs/ledger.md says: the four files are moved away, and the anchor stays."""
    lived(anchored, bao, environment, 2)
    old = public(anchored)
    for file in anchored.directory.glob("reads.jsonl*"):
        file.rename(tmp_path / file.name)
    lived(anchored, bao, environment, 2)
    assert "another checkpoint" not in anchored.log_path.read_text()
    anchor, new = fetched(bao, environment, tmp_path / "anchor"), public(anchored)
    for path, key, other in ((ledger(anchored), new, old), (tmp_path / "reads.jsonl", old, new)):
        found = reads_check.check(path, key, [anchor])
        assert (found.problems, found.anchored, list(found.passed_over)) == ([], 2, [other.id.hex()])


def test_what_a_thief_of_the_key_does_is_found(anchored: Broker, bao: Bao, environment: str, tmp_path: Path) -> None:
    """The thief has the signing key and the files, and signs each ledger anew."""
    lived(anchored, bao, environment, 5)
    anchor, path, key = fetched(bao, environment, tmp_path / "anchor"), ledger(anchored), public(anchored)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    changes = {
        "deleted": lines[:2] + lines[3:],
        "truncated": lines[:3],
        "swapped": [lines[1], lines[0], *lines[2:]],
        "rewritten": [*lines[:4], lines[4].replace(b'"user":"u"', b'"user":"v"')],
    }
    for name, changed in changes.items():
        folder = tmp_path / name
        folder.mkdir(mode=0o700)
        forged = folder / "reads.jsonl"
        shutil.copy(path.with_name("reads.jsonl.key"), folder)
        forged.touch(mode=0o600)
        forged.write_bytes(b"".join(changed))
        forger = ReadLedger(forged, environment)
        forger.checkpoint(time.time())
        forger.close()
        assert reads_check.check(forged, key).problems == [], f"{name}: without an anchor nobody sees it"
        assert reads_check.check(forged, key, [anchor]).problems, name


def test_a_broker_on_a_forged_ledger_makes_no_checkpoint(anchored: Broker, bao: Bao, environment: str) -> None:
    lived(anchored, bao, environment, 2)
    path = ledger(anchored)
    path.write_bytes(b"")
    reads_check.checkpoints_path(path).unlink()
    forger = ReadLedger(path, environment)
    forger.add([event("limit", user="nobody") for _ in range(2)])
    forger.close()
    before = sizes(bao, environment)
    anchored.ready()
    wait_until(lambda: "the anchor has another checkpoint of 2 lines" in anchored.log_path.read_text())
    assert anchored.metric("pg_envelope_ledger_up") == 1, "reads go on"
    overdrawn(anchored)
    # It tries once more when it stops, and there is no entry for three lines that could differ.
    anchored.stop()
    assert len(path.read_bytes().splitlines()) == 3
    assert sizes(bao, environment) == before


def test_a_kms_that_is_no_vault_is_refused(make_broker: Callable[..., Broker], bao: Bao) -> None:
    broker = make_broker(bao, broker={"reads_anchor": "kv:other"})
    broker.launch()
    assert broker.process.wait(PATIENCE) == 2
    assert "names 'other'" in broker.log_path.read_text()
