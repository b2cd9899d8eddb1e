"""Makes a procedure's transactions READ COMMITTED, whatever the default of its session is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import literal

NAME = "default_transaction_isolation"
SHOW = f"SELECT pg_catalog.current_setting('{NAME}') AS level"


@contextmanager
def read_committed(host: Host) -> Iterator[None]:
    """A row that changes under a batch is then no error. SET TRANSACTION cannot do it, because plpy runs in
    subtransactions.
    """
    row = host.row(SHOW)
    before = str(row["level"]) if row else "read committed"
    if before == "read committed":
        yield
        return
    _default(host, "read committed")
    try:
        yield
    finally:
        host.rollback()
        _default(host, before)


def _default(host: Host, level: str) -> None:
    host.setting(f"SET {NAME} = {literal(level)}")
    host.commit()
