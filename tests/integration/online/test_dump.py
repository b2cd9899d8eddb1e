"""A database that is dumped in the middle of a roll-out: the restored one goes on, or goes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stack.postgres import Cluster
from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST, KINDS, PHASES
from tests.integration.operations.fix_clusters import run

KIND = "SELECT relkind FROM pg_class WHERE oid = 'person'::regclass"
HALF = "SELECT count(email) > 0 AND count(email_plain) > 0 FROM person_encrypted"


@pytest.mark.parametrize("person", KINDS, indirect=True)
@pytest.mark.parametrize("act", CALLS)
def test_a_restored_roll_out_ends(
    person: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path, act: str
) -> None:
    rows, plain = person.sql(DIGEST), person.one(KIND)
    with PHASES["backfill"](person, CALLS["protect"]) as job:
        person.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    assert person.one(HALF)
    run(person.stack.cluster, person.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database(f"online_{act}_{plain}")
    run(other_cluster, name, "pg_restore", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as restored:
        restored.execute("SELECT envelope.this_is_the_original()")
        assert restored.execute(HALF).fetchall() == [(True,)]
        assert restored.execute(DIGEST).fetchall() == rows
        restored.execute(CALLS[act])
        assert restored.execute(DIGEST).fetchall() == rows
        assert restored.execute(KIND).fetchall() == [("v" if act == "protect" else plain,)]
