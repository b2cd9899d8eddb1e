"""Tells in envelope.status() how old the active versions of the KEKs are, as their KMSs say."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta

from pg_envelope.backend.host import Row
from pg_envelope.typed import Any

# NIST SP 800-57 part 1, table 1: a symmetric key that wraps keys is used for at most two years.
CRYPTOPERIOD = timedelta(days=730)
UNKNOWN = "not known"
HINT = "CALL envelope.rotate_kek(name) makes a new version. The cryptoperiod of NIST SP 800-57 is two years at most."


def check(used: Iterable[str], keks: Mapping[str, Any]) -> Row:
    """Returns the row. `used` are the KEKs of this database, and `keks` is what the broker says of its own."""
    ages = {name: _age((keks.get(name) or {}).get("made_at")) for name in sorted(used)}
    old = any(age is not None and age > CRYPTOPERIOD for age in ages.values())
    told = ", ".join(f"{name}: {UNKNOWN if age is None else f'{age.days} days'}" for name, age in ages.items())
    state = "warning" if old else "ok"
    return {"check_name": "age of keks", "state": state, "detail": told or "none", "hint": HINT if old else None}


def _age(made_at: float | None) -> timedelta | None:
    """Returns None also for a time in the future: one of the two clocks is wrong."""
    age = -1.0 if made_at is None else time.time() - made_at
    return timedelta(seconds=age) if made_at and made_at > 0 and age >= 0 else None
