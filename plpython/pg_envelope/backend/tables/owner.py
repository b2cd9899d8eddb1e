"""Statements that meet a table owner's code (casts, domains, indexes, triggers), run with the owner's rights only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident

RUN = "pg_temp.pg_envelope_run"
# A SECURITY DEFINER function of the owner, not SET ROLE: inside one, no code can SET ROLE back to the superuser.
CREATE = f"""CREATE OR REPLACE FUNCTION {RUN}(statement text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE touched bigint;
BEGIN EXECUTE statement; GET DIAGNOSTICS touched = ROW_COUNT; RETURN touched; END $$"""


class AsOwner:
    """Runs statements as the table's owner; made by `as_owner`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, statement: str) -> int:
        """The number of rows the statement touched."""
        row = self._host.row(f"SELECT {RUN}($1) AS touched", ["text"], [statement])
        return int(row["touched"]) if row else 0


@contextmanager
def as_owner(host: Host, owner: str) -> Iterator[AsOwner]:
    host.run(CREATE)
    host.run(f"REVOKE ALL ON FUNCTION {RUN}(text) FROM PUBLIC")
    host.run(f"ALTER FUNCTION {RUN}(text) OWNER TO {ident(owner)}")
    try:
        yield AsOwner(host)
    finally:
        host.run(f"DROP FUNCTION {RUN}(text)")
