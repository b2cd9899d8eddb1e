"""The sections of the page: each is a table of one statement, or of the ledger of reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from pg_envelope_client.pages import Cell, Marked, paragraph, row, table
from pg_envelope_client.statements import Query

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession

NO_RELATION = "42P01"
STATES = {"ok", "warning", "failed"}


class Section(NamedTuple):
    """A table of the page. Rows have the columns of `sql`, in their order. `note` says what they leave out."""

    title: str
    empty: str
    sql: str
    note: str = ""


SECTIONS = (
    Section(
        "What is not well",
        "All checks are ok.",
        "SELECT state, check_name AS check, detail, hint FROM envelope.status() WHERE state <> 'ok' ORDER BY state",
    ),
    Section(
        "KMS and ledgers",
        "There is no answer.",
        "SELECT state, check_name AS what, detail FROM envelope.status()"
        " WHERE check_name LIKE 'kek %'"
        " OR check_name IN ('broker', 'ledger of reads', 'ledger anchor', 'audit log', 'erasures')",
    ),
    Section(
        "Keys by the time until they are due",
        "No keys.",
        "SELECT CASE WHEN due_at < now() THEN 'failed' WHEN due_at < now() + interval '7 days' THEN 'warning'"
        " ELSE 'ok' END AS state, level, subject, date_trunc('second', now() - last_rotated)::text AS age,"
        " due_at::date::text AS due, command FROM envelope.due ORDER BY due_at LIMIT 50",
    ),
    Section(
        "Protected columns",
        "No protected columns.",
        'SELECT relation::text, "column", type, kek, key_version AS version, scope, audit FROM envelope.columns',
    ),
    Section(
        "Who may read",
        "No role but superusers.",
        "SELECT r.rolname AS role, c.relation::text, string_agg(c.column, ', ') AS columns FROM pg_catalog.pg_roles r"
        " CROSS JOIN envelope.columns c WHERE r.rolcanlogin AND NOT r.rolsuper"
        " AND has_column_privilege(r.oid, c.relation, c.column, 'SELECT') GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 200",
        # envelope.access() would tell all of it, and is for superusers.
        "These are privileges on the table's own name."
        " A superuser sees masks and indirect paths by pg-envelope access.",
    ),
    Section(
        "Masks",
        "No role sees a mask.",
        'SELECT relation::text, "column", role, kind FROM envelope.masks',
    ),
    Section(
        "Jobs",
        "No job has run.",
        "SELECT relation::text, what, state, blocks_done || ' of ' || blocks_total AS blocks, rows, faults, eta::text,"
        " date_trunc('second', updated_at)::text AS updated FROM envelope.progress",
    ),
    Section(
        "Erased and destroyed keys",
        "No key was destroyed.",
        # Whose key it was, nobody may learn here: the page leaves out tenants and subjects.
        "SELECT coalesce(name, relation::text, 'a dropped table') AS key_of, version, store,"
        " date_trunc('second', state_since)::text AS destroyed FROM envelope.keys WHERE state = 'destroyed'"
        " ORDER BY state_since DESC LIMIT 50",
    ),
    Section(
        "Backups that could bring back what was erased",
        "None of the registered backups could.",
        "SELECT backup, taken_at::date::text AS taken, expires_at::date::text AS expires, count(*) AS erased_keys"
        " FROM envelope.shred_audit() WHERE state = 'can be revived' GROUP BY 1, 2, 3 ORDER BY 2",
    ),
)


def shown(server: ServerSession) -> Iterator[str]:
    """Yields the HTML of each section. One that the role may not see says so, and the others stay."""
    for section in SECTIONS:
        try:
            rows = server.rows(Query(section.sql.replace("%", "%%")))
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise
            yield _of(section.title, [], _refused(error.sqlstate))
        else:
            yield _of(section.title, rows, section.empty)
            if section.note:
                yield paragraph(section.note)


def _refused(sqlstate: str) -> str:
    there = "This version of the extension has none" if sqlstate == NO_RELATION else "This role cannot see it"
    return f"{there}: SQLSTATE {sqlstate}."


def of_reads(rows: Sequence[dict[str, Any]], is_cut: bool) -> Iterator[str]:
    """Yields the HTML of who read what."""
    yield _of("Who read what", rows, "No reads.")
    if is_cut:
        yield paragraph("The ledger is long: only its last lines were read.")


def of_alarms(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the HTML of alarms and refusals."""
    return _of("Alarms and refusals of the last week", rows, "There were none.")


def _of(title: str, rows: Sequence[dict[str, Any]], empty: str) -> str:
    heads = [name.replace("_", " ") for name in rows[0]] if rows else []
    return table(title, heads, (row(*map(_cell, found.values())) for found in rows), empty)


def _cell(value: object) -> Cell:
    text = "" if value is None else str(value)
    return Marked(text, text) if text in STATES else text
