"""Connects a command to the broker and the key catalog, as an application does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.registry import BrokerAt

if TYPE_CHECKING:
    from pg_envelope_client.sealing.broker import Broker
    from pg_envelope_client.sealing.client import KeyClient


@contextmanager
def key_client(at: BrokerAt, dsn: str | None) -> Iterator[KeyClient]:
    """Yields a client. Raises Problem, also for what the client raises inside."""
    from pg_envelope_client.sealing.client import KeyClient

    with broker(at) as connection, KeyClient(connection, dsn or "") as client:
        yield client


@contextmanager
def broker(at: BrokerAt) -> Iterator[Broker]:
    """Yields a broker. Raises Problem, also for every EnvelopeError inside."""
    from pg_envelope_client.sealing.broker import Broker

    if at.address is None:
        raise usage("this command does not know where the broker is", hint="--broker ADDRESS, or PG_ENVELOPE_BROKER")
    with problems():
        found = Broker(at.address, certificate_file=at.certificate_file, key_file=at.key_file, ca_file=at.ca_file)
        with closing(found):
            yield found


@contextmanager
def problems() -> Iterator[None]:
    """Every EnvelopeError inside becomes a Problem."""
    from pg_envelope import errors

    try:
        yield
    except errors.EnvelopeError as error:
        raise Problem(error.message, detail=error.detail, hint=error.hint, sqlstate=error.sqlstate) from None
