"""Tries whether protected tables work: it reads one row, and writes one that is rolled back.

A trial runs as the table's owner, in the restricted operation of owner.py, and waits for nobody. The base table must
refuse the written row: it has NULL in a NOT NULL column. So the view's trigger and the statement in it run, and BEFORE
triggers of the table may. Nothing is stored, and no AFTER trigger fires. Only a table without such a column gets a
whole row for a moment. An identity column draws a number from its sequence, which no rollback gives back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables import canary_rows
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.timelimit import QUERY_CANCELED, time_limit
from pg_envelope.typed import Any, Literal, NamedTuple

# The limits of one statement of a trial, and of all together, because a monitor waits for them.
LIMIT_SECONDS = 1.0
TOTAL_SECONDS = 10.0
LIMITS = "SET LOCAL lock_timeout = '50ms'"
# Triggers fire as for an application, whatever this session has set.
ORIGIN = "SET LOCAL session_replication_role = origin"
NAMED = 10
READ_ONLY = "SELECT current_setting('transaction_read_only') = 'on' AS read_only"
STORED = "SELECT pg_stat_get_xact_tuples_inserted($1) AS count"
# The view's columns, each with the rules that the base table has for the column at its place, because names may have
# changed. `sample` is a text that the type takes.
TABLES = """
SELECT t.base, format('%I.%I', n.nspname, v.relname) AS name, b.relowner AS owner,
    EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = t.base AND g.tginitdeferred) AS deferred,
    EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = t.base AND NOT g.tgisinternal AND g.tgenabled <> 'D'
        AND g.tgname !~ '^[~!]envelope_')
        AS has_code,
    (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
            'not_null', coalesce(c.attnotnull, false), 'plain', p.field_uuid IS NULL,
            'needed', coalesce(c.attnotnull, false) AND c.attidentity = '',
            'identity', coalesce(c.attidentity, ''), 'generated', coalesce(c.attgenerated, '') <> '',
            'sample', CASE WHEN y.typtype = 'e' THEN
                    (SELECT e.enumlabel FROM pg_catalog.pg_enum e
                     WHERE e.enumtypid = y.oid ORDER BY e.enumsortorder LIMIT 1)
                WHEN y.typname = 'uuid' THEN '00000000-0000-0000-0000-000000000000'
                WHEN y.typname IN ('json', 'jsonb') THEN 'null'
                ELSE CASE y.typcategory WHEN 'N' THEN '0' WHEN 'B' THEN 'false' WHEN 'D' THEN '2000-01-01'
                    WHEN 'T' THEN '0' WHEN 'A' THEN '{}' WHEN 'R' THEN 'empty' ELSE '' END END)
        ORDER BY a.attnum)
     FROM (SELECT v.*, row_number() OVER (ORDER BY v.attnum) AS place FROM pg_catalog.pg_attribute v
         WHERE v.attrelid = t.view AND v.attnum > 0) a
     JOIN pg_catalog.pg_type y ON y.oid = envelope_private.base_type(a.atttypid)
     LEFT JOIN (SELECT b.*, row_number() OVER (ORDER BY coalesce(q.place, b.attnum)) AS place
         FROM pg_catalog.pg_attribute b
         LEFT JOIN envelope_private.protected_column q ON q.key_uuid = t.key_uuid AND q.attnum = b.attnum
         WHERE b.attrelid = t.base AND b.attnum > 0 AND NOT b.attisdropped
             AND b.atttypid <> 'envelope.input'::regtype AND NOT EXISTS (
             SELECT FROM envelope_private.protected_column x
             WHERE x.key_uuid = t.key_uuid AND x.plain_column = b.attname)) c USING (place)
     LEFT JOIN envelope_private.protected_column p ON p.key_uuid = t.key_uuid AND p.attnum = c.attnum)::text AS columns
FROM envelope_private.protected_table t JOIN pg_catalog.pg_class b ON b.oid = t.base
JOIN pg_catalog.pg_class v ON v.oid = t.view JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
ORDER BY name"""

Column = dict[str, Any]

# SQLSTATEs, or classes of them. A row that is refused with one of these has reached the base table.
REFUSED_ROW = ("22", "23", "40", "P0")
NO_KEYS = ("53", "58")
DOES_NOT_OPEN = "XX001"
ERASED_OR_SUSPENDED = "55000"
LOCKED = "55P03"
NO_RIGHT = "42501"


class Outcome(NamedTuple):
    """The outcome of one statement: nothing, an SQLSTATE with its name, or the reason why the trial says nothing of the
    table.
    """

    sqlstate: str = ""
    name: str = ""
    untried: str = ""


class _Undo(Exception):
    """Ends a trial's subtransaction."""


class Findings:
    """The findings of the trials of one kind: reads or writes."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.bad_rows: list[str] = []
        self.untried: list[str] = []

    def check(self, name: str, failing: str, read_only: bool) -> Row:
        """Returns a row for envelope.status()."""
        parts = [f"{failing}: {_named(self.broken)}"]
        parts += [f"with a row that does not open: {_named(self.bad_rows)}"] if self.bad_rows else []
        parts += [f"not tried: {_named(self.untried)}"] if self.untried else []
        parts += ["not tried: this is a standby, or the transaction is read-only"] if read_only else []
        state = "failed" if self.broken else "warning" if self.bad_rows or self.untried else "ok"
        return {"check_name": name, "state": state, "detail": "; ".join(parts), "hint": self._hint()}

    def _hint(self) -> str | None:
        if self.broken:
            return "CALL envelope.refresh('<table>'); if that does not help: docs/runbooks/bad-values.md"
        if self.bad_rows:
            return "CALL envelope.verify('<table>'); SELECT * FROM envelope.faults"
        return "Try again when the tables are not locked, and the broker answers." if self.untried else None


class Trials:
    """Tries all protected tables once. Its texts hold names, SQLSTATEs and their names, never a value."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._until = time.monotonic() + TOTAL_SECONDS
        self._reads, self._writes = Findings(), Findings()

    def checks(self) -> Iterator[Row]:
        """Yields two rows for envelope.status()."""
        read_only = bool(self._host.rows(READ_ONLY)[0]["read_only"])
        for table in self._host.rows(TABLES):
            columns = json.loads(table["columns"])
            opens = self._read(table, columns)
            if not read_only:
                self._write(table, columns, opens)
        yield self._reads.check("reads", "tables that cannot be read", False)
        yield self._writes.check("writes", "tables that cannot be written", read_only)

    def _read(self, table: Row, columns: list[Column]) -> bool:
        """Tells whether the first row opens, if there is one. For an erased or suspended row the error shows that
        reading works.
        """
        outcome = self._try(table, _select(self._rows(table), columns))
        if outcome.sqlstate == DOES_NOT_OPEN:
            self._reads.bad_rows.append(table["name"])
        elif outcome.untried:
            self._reads.untried.append(f"{table['name']} ({outcome.untried})")
        elif outcome.sqlstate not in ("", ERASED_OR_SUSPENDED):
            self._reads.broken.append(f"{table['name']} ({outcome.sqlstate} {outcome.name})")
        return outcome == Outcome()

    def _write(self, table: Row, columns: list[Column], opens: bool) -> None:
        given = [column for column in columns if not column["generated"] and column["identity"] != "a"]
        before = self._stored(table)
        if table["deferred"] and not any(map(_must_be_refused, given)):
            outcome = Outcome(untried="its deferred triggers would have to fire")
        else:
            outcome = self._try(table, _insert(table["name"], given, opens and self._rows(table)))
        if outcome.untried:
            self._writes.untried.append(f"{table['name']} ({outcome.untried})")
        elif outcome.sqlstate:
            if not outcome.sqlstate.startswith((*REFUSED_ROW, ERASED_OR_SUSPENDED)):
                self._writes.broken.append(f"{table['name']} ({outcome.sqlstate} {outcome.name})")
        elif self._stored(table) == before and not table["has_code"]:
            self._writes.broken.append(f"{table['name']} (the row was accepted, and not stored)")

    def _rows(self, table: Row) -> str:
        """Returns the view and the rows to read: a trial is no reason for an alarm."""
        return f"{table['name']}{canary_rows.of_view(self._host, table['base'])}"

    def _stored(self, table: Row) -> int:
        """Returns how many rows this transaction put into the base table, including those that were undone."""
        return int(self._host.rows(STORED, ["oid"], [table["base"]])[0]["count"])

    def _try(self, table: Row, statement: str) -> Outcome:
        """Tries a statement. Raises an error that ends all: a cancel, or the session's own timeout."""
        if time.monotonic() > self._until:
            return Outcome(untried="no time left")
        began = time.monotonic()
        try:
            with time_limit(LIMIT_SECONDS):
                self._undone(lambda: AsOwner(self._host, table["owner"]).run(statement))
                self._host.interrupts()
        except Exception as error:
            sqlstate = str(getattr(error, "sqlstate", None) or "")
            if not sqlstate or (sqlstate == QUERY_CANCELED and time.monotonic() - began < LIMIT_SECONDS):
                raise
            return self._outcome(sqlstate, type(error).__name__, bool(table["has_code"]))
        return Outcome()

    def _undone(self, act: Callable[[], object]) -> None:
        try:
            with self._host.subtransaction():
                self._host.setting(LIMITS)
                self._host.setting(ORIGIN)
                act()
                raise _Undo
        except _Undo:
            return

    def _outcome(self, sqlstate: str, name: str, has_code: bool) -> Outcome:
        if sqlstate.startswith(NO_KEYS):
            # Each other table would wait as long for the broker.
            self._until = 0.0
            return Outcome(untried="no keys from the broker")
        if sqlstate == LOCKED:
            return Outcome(untried="locked")
        if sqlstate == QUERY_CANCELED:
            return Outcome(untried=f"took longer than {LIMIT_SECONDS:g} s")
        if sqlstate == NO_RIGHT and has_code:
            # A trigger may do something that no restricted operation allows, such as making a temporary table.
            return Outcome(untried="its triggers need rights that a trial has not")
        return Outcome(sqlstate, name)


def _select(rows: str, columns: list[Column]) -> str:
    names = commas(ident(column["name"]) for column in columns)
    counts = commas(f"count(one.{ident(column['name'])})" for column in columns)
    return f"SELECT {counts} FROM (SELECT {names} FROM {rows} LIMIT 1) AS one"


def _must_be_refused(column: Column) -> bool:
    """Tells whether NULL in the column makes the base table refuse the row."""
    return bool(column["plain"] and column["not_null"] and not column["identity"] and not column["needed"])


def _insert(view: str, columns: list[Column], rows: str | Literal[False]) -> str:
    """Returns an INSERT of a row with NULLs. `rows` are those that open.

    A column that needs a value before the base table sees it takes another row's value, or the type's sample.
    """
    needed = [ident(column["name"]) for column in columns if column["needed"]]
    values = commas(_value(column, bool(rows)) for column in columns)
    row = f"(SELECT {commas(needed)} FROM {rows} LIMIT 1)" if rows and needed else "(SELECT 1)"
    names = commas(ident(column["name"]) for column in columns)
    return (
        f"INSERT INTO {view} ({names}) SELECT {values}"
        f" FROM (VALUES (1)) AS always (one) LEFT JOIN {row} AS other ON true"
    )


def _value(column: Column, opens: bool) -> str:
    sample = f"{literal(column['sample'] or '')}::{column['type']}"
    if column["needed"]:
        return f"coalesce(other.{ident(column['name'])}, {sample})" if opens else sample
    return sample if column["identity"] else "NULL"


def _named(tables: list[str]) -> str:
    more = f" and {len(tables) - NAMED} more" if len(tables) > NAMED else ""
    return (", ".join(tables[:NAMED]) or "none") + more
