"""verify(): opens every value of a table in committed batches, and lists those that do not open."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

from pg_envelope import errors
from pg_envelope.backend.commits import ENDS_ALL, begin
from pg_envelope.backend.faults import ON_PURPOSE
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.jobs.isolation import read_committed
from pg_envelope.backend.jobs.job import Job
from pg_envelope.backend.jobs.walker import Blocks, Pace, Position, Walker, check
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import canary_rows, careful, catalog, inspect, whole
from pg_envelope.backend.tables.owner import AsOwner

# For each reason, the list has so many values at most, so that a million erased values do not hide a damaged one.
MOST_OF_A_REASON = 1000
# An UPDATE may move a row to where the walk has been already. Such a row is looked at afterwards. Under a steady stream
# of writes there is always one more. A row that moves in the last pass may be missed, if it was damaged before.
MOST_PASSES = 4
# A verification goes on only in the same table and the same file. Otherwise it begins anew.
GOES_ON = """
SELECT heap, next_block, value_count, faults::text, began_xid::text, began_at::text FROM envelope_private.verification
WHERE key_uuid = $1 AND base = $2 AND filenode = pg_relation_filenode(heap) AND finished_at IS NULL"""
FORGET = "DELETE FROM envelope_private.verification WHERE key_uuid = $1"
BEGIN = """
INSERT INTO envelope_private.verification (key_uuid, base) VALUES ($1, $2)
RETURNING heap, next_block, value_count, faults::text, began_xid::text, began_at::text"""
KEEP = """
UPDATE envelope_private.verification SET value_count = $2, faults = $3::jsonb WHERE key_uuid = $1"""
KEEP_POSITION = """
UPDATE envelope_private.verification SET heap = $2, next_block = $3, filenode = pg_relation_filenode($2)
WHERE key_uuid = $1"""
FINISH = "UPDATE envelope_private.verification SET finished_at = clock_timestamp() WHERE key_uuid = $1"
NOW = "SELECT pg_current_xact_id()::xid::text AS xid"
TABLES = "SELECT base, view_name FROM envelope_private.protected_table ORDER BY view_name"


class Verification:
    """Verifies one table, found by its view or base table. Raises NotProtected, ColumnMissing."""

    def __init__(self, host: Host, oid: int) -> None:
        self._host = host
        self._key = catalog.key_of(host, oid)
        table = inspect.inspect(host, self._key["base"])
        self._layout = catalog.layout_of(host, self._key, table)
        self._owner = AsOwner(host, table.owner_oid)
        self._uuid = str(self._key["key_uuid"])
        self._values, self._faults = 0, Counter[str]()
        self._listed: Counter[tuple[str, str]] = Counter()
        self._moved = 0

    def run(self, pace: Pace, anew: bool) -> None:
        """Verifies in committed batches. Goes on where an earlier call ended early, unless `anew`. Raises BadInput."""
        check(pace)
        begin(self._host, "verify")
        whole.refuse_missing(self._host, self._key, self._layout)
        whole.refuse_hidden(self._host, self._key, self._layout, "verify")
        with read_committed(self._host):
            job = Job(self._host, self._uuid, what="verify")
            job.start(take_over=False)
            with job.running():
                self._run(job, Walker(self._host, self._key, job, pace), anew)
                job.complete()
        self._tell()

    def _run(self, job: Job, walker: Walker, anew: bool) -> None:
        state = self._begin(anew)
        job.rows = self._values

        def look(batch: Blocks) -> int:
            found = self._look(batch)
            job.faults = self._faults.total()
            return found

        walker.walk(look, since=Position(state["heap"], state["next_block"]))
        self._follow(walker, state["began_xid"])
        self._host.rows(FINISH, ["uuid"], [self._uuid])
        faulty.forget(self._host, self._key, "reencrypt")
        careful.follow(self._host, self._key["base"])
        self._host.commit()

    def _begin(self, anew: bool) -> Row:
        mine = ["uuid", "oid"], [self._uuid, self._key["base"]]
        state = None if anew else self._host.row(GOES_ON, *mine)
        if state is None:
            self._host.rows(FORGET, ["uuid"], [self._uuid])
            faulty.forget(self._host, self._key, "verify")
            (state,) = self._host.rows(BEGIN, *mine)
        else:
            self._host.notice(
                f"verify: goes on with {self._layout.view} at block {state['next_block']}, begun {state['began_at']}",
                hint="CALL envelope.verify(..., anew => true) begins again.",
            )
        self._values, self._faults = state["value_count"], Counter(json.loads(state["faults"]))
        self._host.commit()
        return state

    def _look(self, batch: Blocks) -> int:
        """Opens the values of some blocks, and lists those that do not open. Returns how many it opened."""
        where = batch.condition() + canary_rows.of_base(self._host, self._layout, str(self._key["scope_key"]))
        columns = " + ".join(f"count(t.{ident(name)})" for name in self._layout.protected)
        seen = self._owner.count(f"SELECT {columns} AS found FROM {batch.relation} t WHERE {where}")
        found = faulty.found(self._owner, self._layout, batch.relation, where)
        self._values += seen
        self._faults.update(row["reason"] for row in found)
        self._list(found)
        self._keep()
        position = [self._uuid, batch.heap, batch.last]
        self._host.rows(KEEP_POSITION, ["uuid", "oid", "int8"], position)
        return seen

    def _list(self, found: list[Row]) -> Counter[str]:
        kept = []
        for row in found:
            self._listed[row["name"], row["reason"]] += 1
            if self._listed[row["name"], row["reason"]] <= MOST_OF_A_REASON:
                kept.append(row)
        return faulty.keep(self._host, self._layout, "verify", kept)

    def _keep(self) -> None:
        self._host.rows(KEEP, ["uuid", "int8", "text"], [self._uuid, self._values, json.dumps(self._faults)])

    def _follow(self, walker: Walker, since: str) -> None:
        """Looks at rows that others wrote meanwhile. Their values are not counted twice."""
        for _ in range(MOST_PASSES):
            (now,) = self._host.rows(NOW)
            self._host.commit()
            self._moved = 0
            walker.walk(partial(self._look_again, since))
            if not self._moved:
                return
            since = now["xid"]

    def _look_again(self, since: str, batch: Blocks) -> int:
        where = f"{batch.condition()} AND age(t.xmin) <= age('{since}'::xid)"
        where += canary_rows.of_base(self._host, self._layout, str(self._key["scope_key"]))
        self._moved += self._owner.count(f"SELECT count(*) AS found FROM {batch.relation} t WHERE {where}")
        found = faulty.found(self._owner, self._layout, batch.relation, where)
        if new := self._list(found):
            self._faults.update(new)
            self._keep()
        return 0

    def _tell(self) -> None:
        """Tells how it ended, without row keys: they are for readers of the table only, and this notice goes to the
        server's log, too.
        """
        told = f"verify: {self._values} values of {self._layout.view}"
        bad = {reason: count for reason, count in self._faults.items() if count}
        if not bad:
            self._host.notice(f"{told}, all open")
            return
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(bad.items()))
        if set(bad) <= set(ON_PURPOSE):
            self._host.notice(f"{told}; {reasons}")
            return
        self._host.warning(
            f"{told}; {reasons}",
            hint="SELECT * FROM envelope.faults names the rows; docs/runbooks/bad-values.md says what to do.",
        )


class SomeNotVerified(errors.NotConfigured):
    """Some tables could not be looked at."""

    default_hint = "The result of the other tables is kept. Mend the cause, then call it again."


def verify_all(host: Host, pace: Pace, anew: bool) -> None:
    """Verifies table by table. A table that cannot be looked at does not stop the others. Raises SomeNotVerified at the
    end.
    """
    begin(host, "verify")
    tables, failed = host.rows(TABLES), []
    for table in tables:
        if (error := _error(host, table, pace, anew)) is not None:
            failed.append(f"{table['view_name']}: {error.message}")
            host.warning(f"verify: {failed[-1]}", error.detail, error.hint)
    if failed:
        raise SomeNotVerified(f"{len(failed)} of {len(tables)} tables could not be verified", detail="\n".join(failed))


def _error(host: Host, table: Row, pace: Pace, anew: bool) -> errors.EnvelopeError | None:
    """Returns why this table could not be looked at. Raises an error that ends the whole session."""
    try:
        Verification(host, table["base"]).run(pace, anew)
    except Exception as error:
        known = error if isinstance(error, errors.EnvelopeError) else host.passed_on(error)
        if known is None or str(known.sqlstate).startswith(ENDS_ALL):
            raise
        host.rollback()
        return known
    return None
