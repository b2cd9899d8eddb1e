"""The key catalog arrives table by table, in any order: replication and parallel restores have none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.stack import Stack
from tests.fix_stack import Database

from .fix_clusters import run

CATALOG = ("key", "field", "field_key")


@pytest.fixture
def copy(stack: Stack, people: Database, tmp_path: Path) -> Iterator[Database]:
    """A database with the schema of `people`, its rows, and of its key catalog only what nothing waits for."""
    name = f"{people.name}_copy"
    people.sql(f"CREATE DATABASE {name} TEMPLATE template0")
    dump = tmp_path / "schema.dump"
    run(stack.cluster, people.name, "pg_dump", "--schema-only", "--format=custom", "--file", dump)
    run(stack.cluster, name, "pg_restore", "--exit-on-error", "--dbname", name, dump)
    made = Database(stack, name)
    # As the workers of a subscription work.
    made.sql("SET session_replication_role = replica; DELETE FROM envelope_private.installation")
    for table in ("public.person_encrypted", "envelope_private.installation", "envelope_private.dek"):
        bring(people, made, table)
    yield made
    made.close()
    people.sql(f"DROP DATABASE {name} WITH (FORCE)")


def bring(source: Database, target: Database, table: str) -> None:
    with (
        source.admin.cursor().copy(f"COPY {table} TO STDOUT") as rows,
        target.admin.cursor().copy(f"COPY {table} FROM STDIN") as into,
    ):
        for row in rows:
            into.write(row)


@pytest.mark.parametrize("order", [*itertools.permutations(CATALOG)], ids=" ".join)
def test_reads_and_writes_work_when_all_is_there(people: Database, copy: Database, order: tuple[str, ...]) -> None:
    for table in order:
        bring(people, copy, f"envelope_private.{table}")
    copy.sql("SET session_replication_role = origin")
    assert copy.sql("SELECT email FROM person ORDER BY id") == people.sql("SELECT email FROM person ORDER BY id")
    assert copy.sql("INSERT INTO person VALUES (3, 'g@h.i') RETURNING email") == [("g@h.i",)]
