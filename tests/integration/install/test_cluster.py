"""The private cluster of `make up` is found and ended whoever started it last."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.postgres import Cluster
from stack.processes import folder, run_as


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # Not pytest's folder, which is for its owner alone: the server's user must reach its own below it.
    with tempfile.TemporaryDirectory(prefix="pgenv-cluster-") as place:
        made = Cluster(folder(Path(place), 0o711))
        yield made
        made.stop()


def restart(cluster: Cluster) -> None:
    options = f"-p {cluster.port} -k {cluster.socket_directory} -c hba_file={cluster.directory / 'pg_hba.conf'}"
    pg_ctl = [cluster.bindir / "pg_ctl", "--pgdata", cluster.data, "--log", cluster.data / "pg_ctl.log"]
    run_as(cluster.account, [*pg_ctl, "--wait", "--options", options, "restart"])


def test_a_server_that_pg_ctl_restarted_is_still_ours(cluster: Cluster) -> None:
    cluster.start()
    first = cluster.pid
    restart(cluster)
    again = Cluster(cluster.directory)
    assert again.running
    assert again.pid not in (None, first)
    again.stop()
    assert not again.running
    assert not (cluster.data / "postmaster.pid").exists()


def test_a_file_that_names_another_process_ends_nobody(cluster: Cluster) -> None:
    cluster.start()
    cluster.stop()
    (cluster.data / "postmaster.pid").write_text("1\n")
    assert not Cluster(cluster.directory).running
