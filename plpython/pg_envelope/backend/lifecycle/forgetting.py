"""Carries out forget_all_keys(), which DROP EXTENSION needs while there are keys. It asks first, and tells what it
destroys.
"""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.search import keys as search_keys
from pg_envelope.backend.sqltext import literal

AT_STAKE = """
SELECT envelope_private.keys_at_stake() AS keys, current_database()::text AS database,
    (SELECT count(*) FROM envelope_private.dek WHERE state <> 'destroyed') AS deks,
    (SELECT string_agg(coalesce(view_name, base_name), ', ' ORDER BY view_name) FROM envelope_private.protected_table)
        AS tables"""
FORGET = "SELECT envelope_private.forget_all_keys()"
# These keys belong to tables that were dropped. No view reads them any more.
RIGHTS = r"""
SELECT c.oid::regclass::text AS name FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'envelope_private'::regnamespace AND c.relkind = 'm' AND c.relname LIKE 'right\_%'"""


class StillProtected(errors.NotConfigured):
    sqlstate = "2BP01"
    text = "tables are still protected by these keys"


class Forgetting(Keys):
    """Works in the caller's transaction."""

    def forget_all(self, database: str | None) -> int:
        """Destroys all DEKs of the catalog. Returns how many there were.

        Raises StillProtected, and BadInput unless the database is named.
        """
        # The lock stops a session that would make a key now. That key would be forgotten unseen.
        self._host.run("LOCK TABLE envelope_private.dek IN SHARE ROW EXCLUSIVE MODE")
        row = self._host.row(AT_STAKE)
        assert row is not None
        if row["tables"]:
            raise StillProtected(
                detail=row["tables"], hint="CALL envelope.unprotect(...) makes each a plain table; or drop the table."
            )
        if database != row["database"]:
            raise _unnamed(row)
        if row["keys"]:
            self._record_if_it_answers(row["keys"])
            search_keys.drop_all(self._host)
            self._host.run(FORGET)
            for rights in self._host.rows(RIGHTS):
                self._host.run(f"DROP MATERIALIZED VIEW {rights['name']}")
            self._host.notice(f"forgotten: {row['keys']}", hint="Backups of this database still hold them.")
        return int(row["deks"])

    def _record_if_it_answers(self, what: str) -> None:
        """Records it in the audit log if the broker answers. Where the broker is gone for good, the keys must go as
        well.
        """
        try:
            self._record("forget_all_keys", what, [])
        except errors.Unavailable as error:
            self._host.warning(f"the broker's audit log does not have this: {error.message}")


def _unnamed(row: Row) -> errors.BadInput:
    return errors.BadInput(
        "forget_all_keys() needs the name of this database",
        detail=f"It would destroy {row['keys'] or 'nothing'}.",
        hint="Nobody can read again what these keys encrypted. To destroy them: SELECT"
        f" envelope.forget_all_keys({literal(row['database'])}).",
    )
