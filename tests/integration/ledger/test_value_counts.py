"""The broker's metrics page counts the values that each role decrypted of each audited column."""

from __future__ import annotations

import re

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database

from .fix_reads import ROWS, WAIT

LINE = re.compile(r'^pg_envelope_values_decrypted_total\{database="(\w+)",role="(\w+)",column="([^"]+)"\} (\d+)$', re.M)


def shown(stack: Stack, database: str) -> dict[tuple[str, str], int]:
    found = LINE.findall(stack.broker.page("metrics"))
    return {(role, column): int(count) for name, role, column, count in found if name == database}


def test_reads_show_by_role_and_column(audited: Database, stack: Stack) -> None:
    email = "public.person.email"
    assert shown(stack, audited.name) == {}
    session = audited.connect("alice")
    session.execute("SELECT email FROM person")
    wait_until(lambda: shown(stack, audited.name) == {("alice", email): ROWS}, WAIT, "the values on the page")
    session.execute("SELECT email FROM person WHERE id <= 3")
    session.execute("SELECT phone FROM person")
    audited.connect("owner").execute("SELECT email FROM person WHERE id = 1")
    wanted = {("alice", email): ROWS + 3, ("owner", email): 1}
    wait_until(lambda: shown(stack, audited.name) == wanted, WAIT, "the values of both roles")


def test_a_rolled_back_read_counts(audited: Database, stack: Stack) -> None:
    session = audited.connect("alice")
    with session.transaction(force_rollback=True):
        session.execute("SELECT email FROM person WHERE id <= 5")
    wanted = {("alice", "public.person.email"): 5}
    wait_until(lambda: shown(stack, audited.name) == wanted, WAIT, "the values of the transaction")
