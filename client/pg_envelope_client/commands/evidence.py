"""pg-envelope report: facts about this database, and what they show of the clauses of a framework."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.evidence.names import FrameworkName
from pg_envelope_client.problems import FAILED, Problem, usage

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession
    from pg_envelope_client.evidence.facts import EvidenceFact

SHOWN = ("framework", "id", "verdict", "not_held", "not_known")
CHANGED = ("what", "before", "now")
# The broker signs every five minutes. Somebody has to copy ledger and anchor, and begin the report.
NEWEST_ANCHORED = 3600
Part = dict[str, Any]
Writer = Callable[[Part, Part, list[dict[str, str]]], bytes]


class ReportFormat(StrEnum):
    """JSON is signed. HTML and PDF are for people, and the PDF has the signed JSON attached."""

    JSON = "json"
    HTML = "html"
    PDF = "pdf"


def _file(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, exists=True, dir_okay=False)


Out = Annotated[Path | None, typer.Option(metavar="FILE", help="The file for the report; it must not exist.")]
Fonts = Annotated[list[Path] | None, _file("TTF", "A font for --format pdf; repeatable.")]
Since = Annotated[Path | None, _file("JSON", "An earlier report, to compare with.")]
Required = Annotated[Path | None, _file("TOML", "The columns that must be protected.")]
LedgerCopy = Annotated[Path | None, _file("JSONL", "A copy of the ledger of reads, to be verified.")]
LedgerKey = Annotated[str | None, typer.Option(metavar="KEY", help="The public key of that ledger.")]
Anchors = Annotated[list[Path] | None, _file("FILE", "Checkpoints kept elsewhere; repeatable.")]


def report(
    framework: Annotated[list[FrameworkName] | None, typer.Option(help="Repeatable. Default: all.")] = None,
    out: Out = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="The form of that file.")] = ReportFormat.JSON,
    font: Fonts = None,
    since: Since = None,
    require: Required = None,
    ledger: LedgerCopy = None,
    ledger_key: LedgerKey = None,
    anchor: Anchors = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Do not ask the broker to sign.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 when a clause is disproved.")] = False,
    dsn: Dsn = None,
) -> None:
    """Report what the database proves of GDPR, HIPAA, PCI DSS and others, signed by the broker."""
    from pg_envelope_client.database import session
    from pg_envelope_client.evidence import document

    if (ledger is None) != (ledger_key is None):
        raise usage("--ledger and --ledger-key go together")
    written = _writer(form, font or [])
    with session(dsn) as server:
        others = _others(server, require, ledger, ledger_key or "", anchor or [])
        made = _made(server, framework or [FrameworkName.ALL], others)
        changed = [] if since is None else document.changes(document.earlier(since, made), made)
        signed = document.unsigned(made) if unsigned else server.rows(statements.sign_report(made))[0]
    if out is not None:
        _write(out, written(made, signed, changed))
    _show(made, changed)
    if strict and any(clause["verdict"] == "disproved" for clause in made["clauses"]):
        raise typer.Exit(FAILED)


def _made(server: ServerSession, names: list[FrameworkName], others: dict[str, EvidenceFact]) -> dict[str, Any]:
    """Returns the report, before anybody has signed it."""
    from pg_envelope_client.evidence import clauses, document, facts

    place = server.rows(statements.REPORT_PLACE)[0]
    found = facts.gather(server, others)
    holds = {name: fact.holds for name, fact in found.items()}
    return document.assembled(place, facts.as_json(found), clauses.judged(names, holds))


def _others(
    server: ServerSession, require: Path | None, ledger: Path | None, key: str, anchors: list[Path]
) -> dict[str, EvidenceFact]:
    """Returns the facts that no statement can see, as far as there are files for them."""
    found = {}
    if require is not None:
        found["required_columns"] = _required(server, require)
    if ledger is not None:
        found["ledger_verified"] = _verified(ledger, key, anchors)
    return found


def _required(server: ServerSession, file: Path) -> EvidenceFact:
    from pg_envelope_client.requirements import compare, load

    rows = compare(load(file), server.rows(statements.TABLE_COLUMNS))
    missing = [row["column"] or row["entry"] for row in rows if row["state"] == "failed"]
    return _fact("required_columns", ", ".join(missing) or f"none of {len(rows)}", not missing)


def _verified(ledger: Path, key: str, anchors: list[Path]) -> EvidenceFact:
    from pg_envelope import reads_check
    from pg_envelope.checkpoints import PublicKey
    from pg_envelope.errors import BadInput

    try:
        found = reads_check.check(ledger, PublicKey.parse(key), anchors)
    except BadInput as error:
        raise Problem(error.message, error.detail, error.hint) from None
    told = f"{found.lines} lines, {found.signed} signed, {found.anchored} anchored, the last {_when(found.anchored_at)}"
    holds = False if found.problems else _is_new(found.anchored_at)
    return _fact("ledger_verified", "; ".join((told, *found.problems)), holds)


def _when(last: int | None) -> str:
    return "never" if last is None else f"at {datetime.fromtimestamp(last, UTC).isoformat()}"


def _is_new(last: int | None) -> bool | None:
    """An end that was cut off after the anchor's last checkpoint cannot be seen. So an old anchor shows nothing."""
    return (last is not None and abs(time.time() - last) < NEWEST_ANCHORED) or None


def _fact(name: str, value: str, holds: bool | None) -> EvidenceFact:
    from pg_envelope_client.evidence.facts import EvidenceFact, declared

    given = declared()[name]
    return EvidenceFact(given["title"], value, holds, given["how"])


def _writer(form: ReportFormat, fonts: list[Path]) -> Writer:
    """Returns what makes the file's content. Raises Problem where a library is missing, before any work is done."""
    if fonts and form is not ReportFormat.PDF:
        raise usage("--font goes with --format pdf")
    match form:
        case ReportFormat.HTML:
            from pg_envelope_client.evidence.page import page

            return lambda *parts: page(*parts).encode()
        case ReportFormat.PDF:
            from pg_envelope_client.evidence.pdf import pdf

            return partial(pdf, fonts=fonts)
        case ReportFormat.JSON:
            return lambda _, signed, __: (json.dumps(signed, indent=2) + "\n").encode()


def _write(out: Path, content: bytes) -> None:
    with open(out, "xb") as file:
        file.write(content)
    output.note(f"{out} is written.")


def _show(made: dict[str, Any], changed: list[dict[str, str]]) -> None:
    rows = [{**clause, **_open(clause, made["facts"])} for clause in made["clauses"]]
    if output.for_machine():
        output.print_json({**made, "changes": changed})
        return
    output.print_rows(rows, SHOWN, "No clauses.")
    if changed:
        output.print_rows(changed, CHANGED, "")


def _open(clause: dict[str, Any], facts: dict[str, Any]) -> dict[str, list[str]]:
    """Returns what keeps a clause from being shown."""
    kinds = {"not_held": False, "not_known": None}
    return {kind: [name for name in clause["facts"] if facts[name]["holds"] is holds] for kind, holds in kinds.items()}
