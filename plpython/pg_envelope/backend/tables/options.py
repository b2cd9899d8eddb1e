"""Reads the `columns` argument of protect(): names, or an object name → its options."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.read_limit import Limit
from pg_envelope.backend.search import options as searching
from pg_envelope.records import dataclass, field
from pg_envelope.suites import SUITES, suite_of
from pg_envelope.typed import Any

HINT = 'For example: ["email", "phone"], or {"email": {"bind": "row", "suite": 1, "pad": true}}.'
TABLES_HINT = 'For example: {"customer": ["email"], "invoice": {"customer_email": {}}}.'
BINDS = ("row", "column")
SEALING = {"bind", "suite", "pad", "audit"}
AUDITS = ("none", "statement", "row", "sync")
TIMES = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
LIMIT_PARTS = {"rows", "per", "then"}
SIV_HINT = 'For example: {"email": {"suite": 4, "bind": "column"}}. docs/deterministic.md says what it tells.'
ACTIONS = ("refuse", "alarm")
# The catalog has it as an int4.
MOST_ROWS = 2**31 - 1
LIMIT_HINT = (
    'For example: {"email": {"audit": "statement", "limit": {"rows": 1000, "per": "minute", "then": "refuse"}}}.'
    " CALL envelope.set_limit(...) takes any interval."
)
STORES = ("vault", "catalog")
SCOPES = ("table", "tenant", "subject")
ERASED = ("error", "null")
SCOPE_HINT = "For example: scope => 'subject', scope_column => 'person_id'. docs/scopes.md tells more."


def parse(columns: str | None) -> dict[str, FieldOptions]:
    """Returns options by column name, in the order given. Raises BadInput."""
    given = json.loads(columns or "null")
    if isinstance(given, list):
        if not all(isinstance(name, str) for name in given) or len(set(given)) < len(given):
            raise errors.BadInput("columns must be an array of different names", hint=HINT)
        given = {name: {} for name in given}
    if not isinstance(given, dict) or not given:
        raise errors.BadInput("columns must name at least one column", hint=HINT)
    return {name: _options(name, options) for name, options in given.items()}


def parse_names(columns: str) -> list[str]:
    """Returns names of columns from the `columns` argument of unprotect(). Raises BadInput."""
    given = json.loads(columns)
    if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
        raise errors.BadInput("columns must be an array of names", hint='For example: ["email", "phone"].')
    return list(dict.fromkeys(given))


def parse_tables(tables: str | None) -> dict[str, dict[str, FieldOptions]]:
    """Returns what parse() returns, by the name of each table as it was written. Raises BadInput."""
    given = json.loads(tables or "null")
    if not isinstance(given, dict) or not given:
        raise errors.BadInput("tables must be an object of tables", hint=TABLES_HINT)
    return {rel: parse(json.dumps(columns)) for rel, columns in given.items()}


@dataclass(frozen=True)
class Scoping:
    """Tells which values share a DEK. `of` is the OID of a table whose DEKs are used; `erased` is how values read
    without DEKs.
    """

    kind: str = "table"
    column: str | None = None
    of: int | None = None
    erased: str = "error"


@dataclass(frozen=True)
class ProtectArguments:
    """Tells what protect() is asked for. `wanted` has columns. With `keep_copies`, materialized views may go on holding
    their values in the clear. `shared` names, by column, the search key that foreign keys need on both sides.
    """

    wanted: Mapping[str, FieldOptions]
    scoping: Scoping
    kek: str = "default"
    store: str | None = None
    keep_copies: bool = False
    shared: Mapping[str, str] = field(default_factory=dict)


def parse_scope(scope: str | None, column: str | None, of: int | None, erased: str | None) -> Scoping:
    """Reads the last arguments of protect(). Raises BadInput."""
    chosen = Scoping(scope or "table", column, of, erased or "error")
    if chosen.kind not in SCOPES:
        raise errors.BadInput(f"scope must be one of {', '.join(SCOPES)}")
    if chosen.erased not in ERASED:
        raise errors.BadInput(f"erased must be one of {', '.join(ERASED)}")
    if (chosen.kind == "table") != (column is None):
        raise errors.BadInput(
            "scopes 'tenant' and 'subject' need scope_column, and scope 'table' takes none", hint=SCOPE_HINT
        )
    if chosen.kind == "table" and of is not None:
        raise errors.BadInput("scope_of is for scopes 'tenant' and 'subject'", hint=SCOPE_HINT)
    return chosen


def check_store(store: str | None) -> None:
    """Raises BadInput for an unknown store, before a key is made for it."""
    if store not in (None, *STORES):
        raise errors.BadInput(
            f"store must be one of {', '.join(STORES)}", hint="Left out, it is the KEK's own default."
        )


def _options(name: str, options: Any) -> FieldOptions:
    if not isinstance(options, dict):
        raise errors.BadInput(f"the options of column {name} must be an object", hint=HINT)
    unknown = sorted(set(options) - SEALING - {"limit", "search", "unique", "index", "force"})
    if unknown:
        raise errors.BadInput(f"column {name} has unknown options: {', '.join(unknown)}", hint=HINT)
    search = searching.parse(name, options.get("search"), options.get("unique", False))
    if options.get("index", "drop") != "drop":
        raise errors.BadInput(f"column {name}: index can only be told to drop", hint=HINT)
    sealing = {known: options[known] for known in SEALING & set(options)}
    limit = _limit(name, options["limit"]) if "limit" in options else None
    chosen = FieldOptions(
        **sealing, search=search, drops_indexes="index" in options, limit=limit, force=options.get("force", False)
    )
    if chosen.bind not in BINDS:
        raise errors.BadInput(f"column {name}: bind must be one of {', '.join(BINDS)}", hint=HINT)
    if type(chosen.suite) is not int or chosen.suite not in SUITES:
        known = ", ".join(f"{suite.number} ({suite.name})" for suite in SUITES.values())
        raise errors.BadInput(f"column {name}: unknown suite", detail=f"Suites: {known}", hint=HINT)
    _check_deterministic(name, chosen)
    if type(chosen.pad) is not bool:
        raise errors.BadInput(f"column {name}: pad must be true or false", hint=HINT)
    check_audit(chosen.audit)
    if limit and chosen.audit == "none":
        raise errors.BadInput(
            f"column {name}: a column with a limit must be audited",
            detail="A limit counts by the events of the ledger of reads.",
            hint=LIMIT_HINT,
        )
    return chosen


def _check_deterministic(name: str, chosen: FieldOptions) -> None:
    """Raises BadInput for a deterministic suite that is not asked for in full, and Unsupported under FIPS."""
    suite = suite_of(chosen.suite)
    if type(chosen.force) is not bool:
        raise errors.BadInput(f"column {name}: force must be true or false", hint=HINT)
    if suite.is_deterministic and chosen.bind != "column":
        raise errors.BadInput(
            f"column {name}: suite {suite.number} ({suite.name}) cannot be bound by row",
            detail="Bound by row, equal values have different envelopes, and the suite is of no use.",
            hint=SIV_HINT,
        )
    if chosen.force and not suite.is_deterministic:
        raise errors.BadInput(
            f"column {name}: force is an option of suite 4 and of a search",
            hint='For a search: {"email": {"search": {"exact": {"force": true}}}}.',
        )


def _limit(name: str, given: Any) -> Limit:
    """Reads `limit`. A time and an action that are left out are those of set_limit(). Raises BadInput."""
    if not isinstance(given, dict) or set(given) - LIMIT_PARTS:
        raise errors.BadInput(f"column {name}: limit must be an object with rows, per and then", hint=LIMIT_HINT)
    rows, per, then = given.get("rows"), given.get("per", "minute"), given.get("then", ACTIONS[0])
    if type(rows) is not int or not 0 < rows <= MOST_ROWS:
        raise errors.BadInput(
            f"column {name}: rows of limit must be a whole number from 1 to {MOST_ROWS}", hint=LIMIT_HINT
        )
    if type(per) is not str or per not in TIMES:
        raise errors.BadInput(f"column {name}: per of limit must be one of {', '.join(TIMES)}", hint=LIMIT_HINT)
    if then not in ACTIONS:
        raise errors.BadInput(f"column {name}: then of limit must be one of {', '.join(ACTIONS)}", hint=LIMIT_HINT)
    return Limit(rows, TIMES[per], then)


def check_audit(level: object) -> None:
    """Raises BadInput for an unknown level of audit."""
    if level not in AUDITS:
        raise errors.BadInput(
            f"audit must be one of {', '.join(AUDITS)}", hint="docs/ledger.md says what each records."
        )
