"""pg-envelope shred, erasures, verify-receipt: keys destroyed for good, the broker's ledger, signed statements."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.keys import Kind
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.registry import Registry
from pg_envelope_client.subject import read as read_subject

if TYPE_CHECKING:
    from pg_envelope.broker.ledger.ledger import Entry
    from pg_envelope_client.database import ServerSession

erasures = Registry("The broker's ledger of erasures: list, export, import. On its machine, as its user.")
Config = Annotated[Path, typer.Option(metavar="FILE", help="The broker.toml of the ledger's broker.")]
SHOWN = ("line", "time", "database", "label", "deks", "reason", "by")


def shred(
    name: Annotated[str, typer.Argument(metavar="NAME|TABLE", help="A protected table, or a named key.")],
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="The reason; ledger and audit log keep it, so name nobody.")
    ],
    subject_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A file with the tenant or subject in one line; - reads standard input."),
    ] = None,
    kind: Annotated[Kind, typer.Option("--as", help="What NAME is.")] = Kind.TABLE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dsn: Dsn = None,
) -> None:
    """Destroy the keys of a tenant or subject, a whole table or a named key, for good: no one can undo it."""
    from pg_envelope_client.database import session
    from pg_envelope_client.secret_file import keep_unlogged

    if kind is Kind.KEY and subject_file is not None:
        raise usage("a named key has no subjects", hint="Leave --subject-file out.")
    subject = None if subject_file is None else read_subject(subject_file)
    what = f"one tenant or subject of {name}" if subject is not None else f"all of {name}"
    with session(dsn) as server:
        # The subject is a parameter, and must not reach the server's log as one.
        keep_unlogged(server)
        if not yes:
            _confirm(server, name, kind, subject)
        if kind is Kind.KEY:
            server.run(statements.shred_key(name, reason))
        else:
            server.run(statements.shred(name, subject, reason))
    sentence = f"The keys of {what} are destroyed. Next: docs/runbooks/erase.md (backups, old rows)."
    output.done(sentence, name=name, kind=kind.value)


def _confirm(server: ServerSession, name: str, kind: Kind, subject: str | None) -> None:
    """Asks on stderr, with all that tells one server, table or person from another. Raises typer.Abort."""
    whose = f"the named key {name}" if kind is Kind.KEY else f"all of {name}"
    lines = [server.place, f"destroys the keys of {whose if subject is None else f'{subject!r} in {name}'}, for good"]
    if kind is Kind.TABLE:
        counted = server.rows(statements.affected(name, subject))
        lines += [f"{row['relation']}: {row['row_count']:,} rows can never be read again" for row in counted]
    else:
        lines.append("what is encrypted under it can never be read again")
    for line in lines:
        output.note(line, style="bold")
    # The answer is a line. Where standard input is the subject's, there is no line, and nothing is done.
    typer.confirm("Go on?", abort=True, err=True)


def verify_receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that pg-envelope receipts --out wrote.")],
    public_key: Annotated[
        list[str] | None,
        typer.Option(metavar="BASE64", help="Trust this key; repeatable. Default: the database's own keys."),
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Check a signed statement, and print what was signed (exit code 1 if it does not hold)."""
    from pg_envelope import signed
    from pg_envelope.errors import EnvelopeError
    from pg_envelope_client.database import session

    trusted = public_key
    if trusted is None:
        with session(dsn) as server:
            trusted = [str(row["public_key"]) for row in server.rows(statements.SIGNING_KEYS)]
    try:
        statement = signed.verify(json.loads(file.read_text()), trusted)
    except (EnvelopeError, ValueError) as error:
        raise Problem(f"{file}: not a statement that one of {len(trusted)} trusted keys signed") from error
    output.print_json(statement)


@erasures.command("list")
def list_erasures(config: Config) -> None:
    """List what was erased, once chain and signature are verified."""
    output.print_rows([_row(entry) for entry in _entries(config)], SHOWN, "Nothing was erased.")


@erasures.command()
def export(
    config: Config, out: Annotated[Path, typer.Option(metavar="FILE", help="The file for the verified copy.")]
) -> None:
    """Copy the ledger for another broker; prints the public key that `import` asks for."""
    from pg_envelope.broker.ledger.exchange import public_key
    from pg_envelope.broker.settings import config as settings

    count = len(_entries(config))
    shutil.copyfile(settings.load(config).broker.erasures, out)
    key = public_key(config)
    output.done(f"{out} holds {count} entries. Import them with --public-key {key}", entries=count, public_key=key)


@erasures.command("import")
def import_erasures(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="The file that export wrote.")],
    config: Config,
    public_key: Annotated[str, typer.Option(metavar="BASE64", help="The public key that export printed.")],
) -> None:
    """Take over another broker's erasures; this broker must be stopped."""
    from pg_envelope.broker.ledger.exchange import take_over
    from pg_envelope.errors import EnvelopeError

    try:
        added, known = take_over(config, file, public_key)
    except EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None
    sentence = f"{added} entries taken over, {known} known before. Next: start the broker; replay_erasures()."
    output.done(sentence, added=added, known=known)


def _entries(config: Path) -> list[Entry]:
    from pg_envelope.broker.ledger.exchange import entries
    from pg_envelope.errors import EnvelopeError

    try:
        return entries(config)
    except EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None


def _row(entry: Entry) -> dict[str, Any]:
    kept = {name: entry[name] for name in ("time", "database", "label", "reason")}
    return {"line": entry["n"], **kept, "deks": [dek[0] for dek in entry["deks"]], "by": entry["who"].get("role", "")}
