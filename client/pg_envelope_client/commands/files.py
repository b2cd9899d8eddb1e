"""pg-envelope seal and open: files under a named key."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output
from pg_envelope_client.commands.key_client import key_client
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import usage
from pg_envelope_client.registry import BrokerAt

if TYPE_CHECKING:
    from pg_envelope_client.sealing.client import NamedKey

SUFFIX = ".sealed"
File = Annotated[Path, typer.Argument(metavar="FILE")]
Key = Annotated[str, typer.Option("--key", metavar="NAME", help="The named key.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where the result goes. It must not exist.")]
Context = Annotated[str, typer.Option(help="What the file is bound to; the same for seal and open.")]


def seal(
    file: File,
    key: Key,
    broker_at: BrokerAt,
    out: Out = None,
    context: Context = "",
    dsn: Dsn = None,
) -> None:
    """Seal a file under a named key; its name is sealed, too. The file itself stays."""
    target = out or file.with_name(file.name + SUFFIX)

    def work(named: NamedKey, source: IO[bytes], written: IO[bytes]) -> None:
        from pg_envelope_client.sealing.files import seal_file

        seal_file(named, source, written, context, name=file.name)

    with key_client(broker_at, dsn) as client:
        _copy(client.named(key), file, target, work)
    output.done(f"Sealed {file} as {target}.", file=str(target))


def open_(
    file: File,
    key: Key,
    broker_at: BrokerAt,
    out: Out = None,
    context: Context = "",
    dsn: Dsn = None,
) -> None:
    """Open a sealed file. Nothing is left behind when it does not open to its end."""
    target = out or _without_suffix(file)

    def work(named: NamedKey, source: IO[bytes], written: IO[bytes]) -> None:
        from pg_envelope_client.sealing.files import open_file

        open_file(named, source, written, context)

    with key_client(broker_at, dsn) as client:
        _copy(client.named(key), file, target, work)
    output.done(f"Opened {file} as {target}.", file=str(target))


def _without_suffix(file: Path) -> Path:
    if file.suffix != SUFFIX:
        raise usage(f"the file's name does not end in {SUFFIX}", hint="Say where the content goes: --out FILE.")
    return file.with_suffix("")


def _copy(named: NamedKey, file: Path, target: Path, work: Callable[[NamedKey, IO[bytes], IO[bytes]], None]) -> None:
    """Writes beside the target, and gives the result its name when it is whole. Nothing is overwritten."""
    if target.exists():
        raise usage(f"{target} exists already", hint="Move it away, or say another name: --out FILE.")
    with open(file, "rb") as source, tempfile.NamedTemporaryFile(dir=target.parent, prefix=".pg-envelope-") as written:
        work(named, source, written)
        written.flush()
        os.fsync(written.fileno())
        # A link fails where a rename would overwrite what has come meanwhile.
        os.link(written.name, target)
