"""pg-envelope shred, erasures, verify-receipt: keys destroyed for good, the broker's ledger, signed statements."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pg_envelope_client import output, statements
from pg_envelope_client.commands.keys import Kind
from pg_envelope_client.commands.options import Dsn, Json
from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.subject import read as read_subject

if TYPE_CHECKING:
    from pg_envelope.broker.ledger import Entry

erasures = typer.Typer(
    help="The broker's ledger of erasures: list, export, import. On its machine, as its user.", no_args_is_help=True
)
Config = Annotated[Path, typer.Option(metavar="FILE", help="broker.toml of the broker whose ledger it is.")]
SHOWN = ("line", "time", "database", "label", "deks", "reason", "by")


def shred(
    name: Annotated[str, typer.Argument(metavar="NAME|TABLE", help="A protected table, or a named key.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it goes to ledger and audit log, so no names.")],
    subject_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Holds the tenant or subject, one line; - reads standard input."),
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
    if not yes:
        typer.confirm(f"What is encrypted for {what} can never be read again. Go on?", abort=True)
    with session(dsn) as server:
        # The subject is a parameter, and must not reach the server's log as one.
        keep_unlogged(server)
        if kind is Kind.KEY:
            server.run(statements.shred_key(name, reason))
        else:
            server.run(statements.shred(name, subject, reason))
    output.say(f"The keys of {what} are destroyed. Next: docs/runbooks/erase.md (backups, old rows).")


def verify_receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As pg-envelope receipts --out writes it.")],
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
def list_erasures(config: Config, as_json: Json = False) -> None:
    """List what was erased, once chain and signature are verified."""
    rows = [_row(entry) for entry in _entries(config)]
    if as_json:
        output.print_json(rows)
    else:
        output.print_rows(rows, SHOWN, "Nothing was erased.")


@erasures.command()
def export(
    config: Config, out: Annotated[Path, typer.Option(metavar="FILE", help="Where the verified copy goes.")]
) -> None:
    """Copy the ledger for another broker; prints the public key that `import` asks for."""
    from pg_envelope.broker import config as settings
    from pg_envelope.broker.exchange import public_key

    count = len(_entries(config))
    shutil.copyfile(settings.load(config).broker.erasures, out)
    output.say(f"{out} holds {count} entries. Import them with --public-key {public_key(config)}")


@erasures.command("import")
def import_erasures(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="As export wrote it.")],
    config: Config,
    public_key: Annotated[str, typer.Option(metavar="BASE64", help="The other ledger's, as export printed it.")],
) -> None:
    """Take over another broker's erasures; this broker must be stopped."""
    from pg_envelope.broker.exchange import take_over
    from pg_envelope.errors import EnvelopeError

    try:
        added, known = take_over(config, file, public_key)
    except EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None
    output.say(f"{added} entries taken over, {known} known before. Next: start the broker; replay_erasures().")


def _entries(config: Path) -> list[Entry]:
    from pg_envelope.broker.exchange import entries
    from pg_envelope.errors import EnvelopeError

    try:
        return entries(config)
    except EnvelopeError as error:
        raise Problem(error.message, error.detail, error.hint) from None


def _row(entry: Entry) -> dict[str, Any]:
    kept = {name: entry[name] for name in ("time", "database", "label", "reason")}
    return {"line": entry["n"], **kept, "deks": [dek[0] for dek in entry["deks"]], "by": entry["who"].get("role", "")}
