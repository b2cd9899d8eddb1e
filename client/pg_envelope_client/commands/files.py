"""pg-envelope seal and open: files under a named key."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from pg_envelope_client import output
from pg_envelope_client.commands.options import Dsn
from pg_envelope_client.problems import Problem, usage

if TYPE_CHECKING:
    from pg_envelope_client.sealing.client import NamedKey

SUFFIX = ".sealed"
PANEL = "Broker"
ADDRESS = "tls://HOST:PORT of the broker's door, or the path of its socket."

File = Annotated[Path, typer.Argument(metavar="FILE")]
Key = Annotated[str, typer.Option("--key", metavar="NAME", help="The named key.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where the result goes. It must not exist.")]
Context = Annotated[str, typer.Option(help="What the file is bound to; the same for seal and open.")]
Address = Annotated[
    str, typer.Option("--broker", envvar="PG_ENVELOPE_BROKER", metavar="ADDRESS", help=ADDRESS, rich_help_panel=PANEL)
]


def _file(name: str, variable: str, text: str) -> object:
    return typer.Option(name, envvar=variable, metavar="FILE", help=text, rich_help_panel=PANEL)


Certificate = Annotated[
    Path | None, _file("--certificate", "PG_ENVELOPE_CERTIFICATE", "The application's certificate, for the door.")
]
CertificateKey = Annotated[Path | None, _file("--certificate-key", "PG_ENVELOPE_CERTIFICATE_KEY", "Its private key.")]
Ca = Annotated[Path | None, _file("--ca-file", "PG_ENVELOPE_CA_FILE", "The authority of the door's certificate.")]


def seal(
    file: File,
    key: Key,
    broker: Address,
    out: Out = None,
    context: Context = "",
    certificate: Certificate = None,
    certificate_key: CertificateKey = None,
    ca_file: Ca = None,
    dsn: Dsn = None,
) -> None:
    """Seal a file under a named key; its name is sealed, too. The file itself stays."""
    target = out or file.with_name(file.name + SUFFIX)

    def work(named: NamedKey, source: IO[bytes], written: IO[bytes]) -> None:
        from pg_envelope_client.sealing.files import seal_file

        seal_file(named, source, written, context, name=file.name)

    with _named(key, dsn, broker, certificate, certificate_key, ca_file) as named:
        _copy(named, file, target, work)
    output.done(f"Sealed {file} as {target}.", file=str(target))


def open_(
    file: File,
    key: Key,
    broker: Address,
    out: Out = None,
    context: Context = "",
    certificate: Certificate = None,
    certificate_key: CertificateKey = None,
    ca_file: Ca = None,
    dsn: Dsn = None,
) -> None:
    """Open a sealed file. Nothing is left behind when it does not open to its end."""
    target = out or _without_suffix(file)

    def work(named: NamedKey, source: IO[bytes], written: IO[bytes]) -> None:
        from pg_envelope_client.sealing.files import open_file

        open_file(named, source, written, context)

    with _named(key, dsn, broker, certificate, certificate_key, ca_file) as named:
        _copy(named, file, target, work)
    output.done(f"Opened {file} as {target}.", file=str(target))


def _without_suffix(file: Path) -> Path:
    if file.suffix != SUFFIX:
        raise usage(f"the file's name does not end in {SUFFIX}", hint="Say where the content goes: --out FILE.")
    return file.with_suffix("")


@contextmanager
def _named(
    name: str, dsn: str | None, address: str, certificate: Path | None, key: Path | None, ca: Path | None
) -> Iterator[NamedKey]:
    from pg_envelope import errors
    from pg_envelope_client.sealing.broker import Broker
    from pg_envelope_client.sealing.client import KeyClient

    try:
        broker = Broker(address, certificate_file=certificate, key_file=key, ca_file=ca)
        with KeyClient(broker, dsn or "") as client:
            yield client.named(name)
    except errors.EnvelopeError as error:
        raise Problem(error.message, detail=error.detail, hint=error.hint, sqlstate=error.sqlstate) from None


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
