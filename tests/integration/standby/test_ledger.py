"""Reads on a physical standby are in the ledger of the standby's broker."""

from __future__ import annotations

from typing import Any

from pg_envelope import reads_check
from stack.broker import Broker
from stack.processes import wait_until
from tests.fix_stack import Database

from .conftest import Connect, MakeStandby


def reads(broker: Broker) -> list[dict[str, Any]]:
    return list(reads_check.events(broker.erasures.with_name("reads.jsonl")))


def test_a_standby_s_reads_are_recorded(
    people: Database, other_broker: Broker, make_standby: MakeStandby, connect: Connect
) -> None:
    people.sql("CALL envelope.set_audit('person', 'email', 'row')")
    standby = make_standby(other_broker)
    session = connect(standby)
    wait_until(lambda: session.execute("SELECT email FROM person").fetchall(), 60, "the standby's replay")
    session.close()
    wait_until(lambda: any(event["count"] == 2 for event in reads(other_broker)), 60, "the event")
    event = reads(other_broker)[-1]
    assert (event["table"], event["column"], event["rows"]) == ("public.person", "email", ["1", "2"])
    other_broker.kill()
    with connect(standby) as other:
        assert other.execute("SELECT id FROM person").fetchall() == [(1,), (2,)]
