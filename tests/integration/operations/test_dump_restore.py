"""pg_dump and pg_restore of a protected database into another cluster with the same broker and KMS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.postgres import Cluster
from stack.stack import Stack
from tests.fix_stack import COPY

from . import shop
from .fix_clusters import run

# How it is dumped, and how restored.
FORMATS: dict[str, tuple[list[str], list[str]]] = {
    "custom": ([], []),
    "tar": ([], ["--single-transaction"]),
    "directory": (["--jobs=2"], ["--jobs=4"]),
}
SOURCE = "shop"


@pytest.fixture(scope="module")
def source(stack: Stack) -> Iterator[str]:
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {SOURCE} {COPY}")
    with stack.connect(SOURCE) as connection:
        shop.build(connection)
    yield SOURCE
    with stack.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {SOURCE} WITH (FORCE)")


@pytest.fixture(scope="module")
def plain_dump(stack: Stack, source: str) -> str:
    return run(stack.cluster, source, "pg_dump", "--format=plain")


def assert_whole(cluster: Cluster, database: str) -> None:
    with cluster.connect(database) as connection, cluster.connect(database, "alice") as alice:
        # Whether it takes the place of its original, only a person can say.
        assert [name for name, _ in shop.not_ok(connection)] == ["original"]
        connection.execute("SELECT envelope.this_is_the_original()")
        assert shop.not_ok(connection) == []
        shop.assert_readable(connection)
        shop.assert_rights(alice)
        shop.assert_goes_on(connection)


@pytest.mark.parametrize("kind", FORMATS)
def test_archive(
    stack: Stack,
    source: str,
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    tmp_path: Path,
    kind: str,
) -> None:
    dump = tmp_path / "dump"
    dumping, restoring = FORMATS[kind]
    run(stack.cluster, source, "pg_dump", f"--format={kind}", *dumping, "--file", dump)
    target = empty_database(f"archive_{kind}")
    run(other_cluster, target, "pg_restore", "--exit-on-error", *restoring, "--dbname", target, dump)
    assert_whole(other_cluster, target)


def test_plain(other_cluster: Cluster, plain_dump: str, empty_database: Callable[[str], str], tmp_path: Path) -> None:
    target = empty_database("plain")
    script = tmp_path / "dump.sql"
    script.write_text(plain_dump)
    run(other_cluster, target, "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--no-psqlrc", "--file", script)
    assert_whole(other_cluster, target)


def test_schema_then_data_without_triggers(
    stack: Stack, source: str, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    """Nothing can draw capabilities while triggers are off: status() says so, and what to do."""
    dump = tmp_path / "dump"
    run(stack.cluster, source, "pg_dump", "--format=custom", "--file", dump)
    target = empty_database("data_only")
    to_target = ("--exit-on-error", "--dbname", target, dump)
    run(other_cluster, target, "pg_restore", "--schema-only", *to_target)
    run(other_cluster, target, "pg_restore", "--data-only", "--disable-triggers", *to_target)
    with other_cluster.connect(target) as connection:
        failed = connection.execute("SELECT check_name, hint FROM envelope.status() WHERE state = 'failed'").fetchall()
        assert [check for check, _ in failed] == ["capabilities", "reads", "writes"]
        assert failed[0][1] == "SELECT envelope.renew_capabilities()"
        connection.execute(failed[0][1])
        fires = "SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgname IN ('complete', 'renew_seal', 'seal_changed')"
        assert connection.execute(fires).fetchall() == [("A",)]
    assert_whole(other_cluster, target)


def test_a_dump_holds_neither_plaintext_nor_capability(stack: Stack, source: str, plain_dump: str) -> None:
    with stack.connect(source) as connection:
        rows = connection.execute("SELECT encode(capability, 'hex') FROM envelope_private.capability").fetchall()
    assert len(rows) == 6
    assert not [capability for (capability,) in rows if capability in plain_dump]
    assert shop.MARK not in plain_dump
    assert f"\\x{shop.MARK.encode().hex()}" not in plain_dump
    assert "customer_encrypted" in plain_dump  # the control: this dump has the tables


def test_restored_beside_the_living_database(
    stack: Stack,
    source: str,
    other_cluster: Cluster,
    plain_dump: str,
    empty_database: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Both go on making keys under the same database uuid: neither overwrites or reads the other's."""
    target = empty_database("beside")
    script = tmp_path / "dump.sql"
    script.write_text(plain_dump)
    run(other_cluster, target, "psql", "--quiet", "--no-psqlrc", "--file", script)
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE living TEMPLATE {source}")
    with stack.connect("living") as living, other_cluster.connect(target) as restored:
        for connection, email in ((living, "living"), (restored, "restored"), (living, "living again")):
            connection.execute("SELECT envelope.rotate('customer')")
            connection.execute("INSERT INTO customer (id, email) SELECT max(id) + 1, %s FROM customer", [email])
        for connection, email in ((living, "living again"), (restored, "restored")):
            found = connection.execute("SELECT email FROM customer ORDER BY id DESC LIMIT 1").fetchall()
            assert found == [(email,)]
        ids = {
            connection: {row[0] for row in connection.execute("SELECT dek_id FROM envelope.keys WHERE store = 'vault'")}
            for connection in (living, restored)
        }
        assert max(ids[living]) not in ids[restored]
        assert max(ids[restored]) not in ids[living]
    with stack.connect("postgres") as connection:
        connection.execute("DROP DATABASE living WITH (FORCE)")
