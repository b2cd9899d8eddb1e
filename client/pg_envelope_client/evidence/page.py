"""Writes the report as one HTML page, fit to be printed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pg_envelope_client.pages import Marked, Markup, paragraph, row, table, whole

LIMITS = (
    "This report shows what the database, the broker and the given files say of themselves at one moment. A superuser"
    " could have changed what they say. The report does not know which data the law means, who should have access, or"
    " what happens in other systems. It is no legal advice."
)
FACTS = ("fact", "value", "holds", "see for yourself")
CLAUSES = ("clause", "asks", "verdict", "facts", "cannot be known here")
CHANGES = ("what", "before", "now")
WORDS = {True: "yes", False: "no", None: "unknown"}


def page(report: Mapping[str, Any], signed: Mapping[str, Any], changed: Sequence[Mapping[str, str]]) -> str:
    body = [
        *map(paragraph, (*origin(report, signed), LIMITS)),
        table("Facts", FACTS, (_fact(*item) for item in report["facts"].items())),
        table("Clauses", CLAUSES, map(_clause, report["clauses"])),
    ]
    if changed:
        rows = (row(*(one[name] for name in CHANGES)) for one in changed)
        body.append(table("Changes since the earlier report", CHANGES, rows))
    return whole(f"Encryption of {report['database']}: evidence", body)


def origin(report: Mapping[str, Any], signed: Mapping[str, Any]) -> tuple[str, str]:
    """Returns where the report comes from, and who signed it."""
    digest = hashlib.sha256(signed["statement"].encode()).hexdigest()
    by = f"signed by the key {signed['public_key']}" if signed["signature"] else "NOT SIGNED"
    return (
        f"Made at {report['made_at']} of database {report['database']} ({report['database_uuid']}),"
        f" PostgreSQL {report['server_version']}, pg_envelope {report['version']}.",
        f"SHA-256 of the statement: {digest}, {by}. The JSON file holds the statement and its signature.",
    )


def _fact(name: str, fact: Mapping[str, Any]) -> str:
    word = WORDS[fact["holds"]]
    title = Markup(f"{escape(fact['title'])}<br><code>{escape(name)}</code>")
    how = Markup(f"<code>{escape(fact['how'])}</code>")
    return row(title, fact["value"], Marked(word, word), how, name=name)


def _clause(clause: Mapping[str, Any]) -> str:
    links = Markup(", ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in clause["facts"]))
    verdict = Marked(clause["verdict"], clause["verdict"])
    return row(f"{clause['framework']} {clause['id']}", clause["asks"], verdict, links, clause["unknown"])
