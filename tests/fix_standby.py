"""A streaming standby of a cluster, made by pg_basebackup."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from stack.postgres import Cluster
from stack.processes import folder


def standby_of(primary: Cluster, home: Path, environment: Mapping[str, str], settings: Mapping[str, str]) -> Cluster:
    """A cluster in `home` that replays the primary's WAL, started. `environment` names its broker."""
    cluster = Cluster(folder(home, 0o711), environment=dict(environment), settings={**settings, "hot_standby": "on"})
    folder(cluster.socket_directory, 0o700, cluster.account)
    folder(cluster.data, 0o700, cluster.account)
    shutil.copy(primary.directory / "pg_hba.conf", cluster.directory / "pg_hba.conf")
    copy = ("--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync")
    primary.program("pg_basebackup", "--pgdata", cluster.data, *copy)
    cluster.start()
    return cluster
