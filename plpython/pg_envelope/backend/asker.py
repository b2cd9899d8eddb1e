"""Tells the broker, for its audit log, who asks: the session, and the role whose right counts."""

from __future__ import annotations

import os

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import is_parallel_worker
from pg_envelope.typed import cast

# Every name is qualified, because the query runs with the caller's search_path. A caller must not choose what the audit
# log says.
WHO = """SELECT pg_catalog.current_database() AS database, session_user::pg_catalog.text AS role,
    COALESCE($1, current_user::pg_catalog.text) AS acting, pg_catalog.host(pg_catalog.inet_client_addr()) AS client,
    pg_catalog.current_setting('application_name') AS application, pg_catalog.pg_backend_pid() AS pid,
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.format('%s/{}/%s', (SELECT d.oid
        FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()),
        EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time())) END AS instance"""

# A parallel worker has no client. The session that it works for has one.
LEADER = """SELECT leader.pid, pg_catalog.host(leader.client_addr) AS client
    FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) worker
    CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(worker.leader_pid) leader"""


class Asker:
    """Describes this session. In a step that runs as the extension's owner, the asking role is the role that began
    the step.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def who(self) -> wire.Who:
        """Returns the session and the role that ask now."""
        found = self._host.row(WHO, ["text"], [self._host.acting])
        if found is None:
            raise errors.Internal
        if found["instance"] is not None:
            # The working directory of a backend is the data directory.
            found["instance"] = found["instance"].format(os.stat(".").st_ino)
        if found["client"] is None and is_parallel_worker():
            found |= self._host.as_owner(self._leader)
        return cast(wire.Who, found)

    def _leader(self) -> Row:
        return self._host.row(LEADER) or {}
