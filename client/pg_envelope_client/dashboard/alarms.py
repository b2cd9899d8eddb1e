"""Lists the alarms and refusals of the last week, out of the ledger of reads and the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from pg_envelope_client.dashboard.tail import last_lines

WEEK = timedelta(days=7)
MOST_ROWS = 30
Entry = dict[str, Any]


class Alarm(NamedTuple):
    """One alarm or refusal. `state` is `failed` for what should wake somebody, else `warning`."""

    state: str
    last: str
    what: str
    who: str
    about: str
    times: int


def listed(ledger: Path | None, audit_log: Path | None) -> list[dict[str, Any]]:
    """Returns rows of equal alarms and refusals, the latest first. Raises OSError. It verifies nothing."""
    since = (datetime.now(UTC) - WEEK).isoformat()
    found = [*_read(ledger, _of_ledger), *_read(audit_log, _of_audit_log)]
    rows = _summed(one for one in found if one.last >= since)
    return [one._asdict() for one in sorted(rows, key=attrgetter("last"), reverse=True)[:MOST_ROWS]]


def _read(path: Path | None, of: Callable[[Entry], Alarm | None]) -> Iterator[Alarm]:
    if path is not None:
        yield from filter(None, map(of, last_lines(path)))


def _summed(told: Iterable[Alarm]) -> Iterable[Alarm]:
    found: dict[tuple[str, ...], Alarm] = {}
    for one in told:
        same = one.state, one.what, one.who, one.about
        before = found.get(same)
        found[same] = one._replace(times=one.times + (before.times if before else 0))
    return found.values()


def _of_ledger(entry: Entry) -> Alarm | None:
    last = str(entry.get("timestamp"))
    match entry.get("event"):
        case "canary":
            about = ", ".join(map(str, _list(entry.get("columns"))))
            return Alarm("failed", last, "canary opened", _who(entry, "user", "role", "ip"), about, 1)
        case "limit":
            state = "failed" if entry.get("then") == "alarm" else "warning"
            what = f"limit of reads: {entry.get('then')}"
            return Alarm(state, last, what, str(entry.get("user")), f"field {entry.get('field')}", 1)
    return None


def _of_audit_log(entry: Entry) -> Alarm | None:
    # A line with `repeated` counts those after an earlier line.
    last, times = str(entry.get("time")), (_number(entry.get("repeated")) or 1) + _number(entry.get("skipped"))
    if entry.get("op") == "refused":
        who = entry.get("who")
        about = entry.get("label") or (f"key id {entry['key_id']}" if "key_id" in entry else "")
        asked = _who(who if isinstance(who, dict) else {}, "role", "acting", "client")
        return Alarm("warning", last, f"refused: {entry.get('reason')}", asked, str(about), times)
    if entry.get("event") == "peer_refused":
        peer = entry.get("peer")
        return Alarm("warning", last, "not allowed at the broker", f"uid {_uid(peer)}", "", times)
    if entry.get("event") == "application_refused":
        who = str(entry.get("application") or entry.get("address"))
        return Alarm("warning", last, "application refused", who, str(entry.get("error") or ""), times)
    return None


def _who(told: Entry, user: str, role: str, address: str) -> str:
    acting = f" as {told.get(role)}" if told.get(role) not in (None, told.get(user)) else ""
    place = f" from {told[address]}" if told.get(address) else ""
    return f"{told.get(user)}{acting}{place}"


def _uid(peer: object) -> object:
    return peer.get("uid") if isinstance(peer, dict) else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
