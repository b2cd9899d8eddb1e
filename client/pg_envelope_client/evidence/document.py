"""Puts the report together, has it signed, reads an earlier one, and compares the two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

from pg_envelope_client.problems import Problem

MEMBERS = {"facts", "clauses", "made_at", "database_uuid"}
Report = Mapping[str, Any]


def assembled(place: Mapping[str, Any], facts: Mapping[str, Any], clauses: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the report. `place` tells which database it is about."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"made_at": now, **place, "facts": facts, "clauses": clauses}


def unsigned(report: Report) -> dict[str, Any]:
    """Returns the report in the form of a signed one, without a signature."""
    text = json.dumps({"statement": {"what": "report", "report": report}}, sort_keys=True)
    return {"statement": text, "signature": None, "public_key": None}


def earlier(path: Path, now: Report) -> Report:
    """Returns the report of a file. Raises Problem when it is none, or another database's. It checks no signature."""
    try:
        found = json.loads(json.loads(path.read_bytes())["statement"])["statement"]["report"]
    except (ValueError, LookupError, TypeError):
        found = None
    if not _is_report(found):
        raise Problem(f"{path} is no report", hint="Give a file that pg-envelope report --format json wrote.")
    if found["database_uuid"] != now["database_uuid"]:
        raise Problem(f"{path} is the report of another database")
    return found


def _is_report(found: Any) -> TypeGuard[Report]:
    if not isinstance(found, dict) or not found.keys() >= MEMBERS:
        return False
    facts, clauses = found["facts"], found["clauses"]
    items = [*facts.values(), *clauses] if isinstance(facts, dict) and isinstance(clauses, list) else [None]
    return all(isinstance(item, dict) for item in items)


def changes(before: Report, now: Report) -> list[dict[str, str]]:
    """Returns a row of what, before and now for each fact and each clause that differs. What only one has is left out:
    another version knows other facts, and a report need not have all frameworks.
    """
    old, new = _flat(before), _flat(now)
    names = [name for name in new if name in old and old[name] != new[name]]
    return [{"what": name, "before": old[name], "now": new[name]} for name in names]


def _flat(report: Report) -> dict[str, str]:
    facts = {name: f"{_word(fact.get('holds'))}: {fact.get('value')}" for name, fact in report["facts"].items()}
    clauses = {f"{one.get('framework')} {one.get('id')}": str(one.get("verdict")) for one in report["clauses"]}
    return facts | clauses


def _word(holds: bool | None) -> str:
    return "unknown" if holds is None else "holds" if holds else "does not hold"
