"""SQL of the commands: names and values are parameters, whatever they hold."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable

import pytest
from pglast import parse_sql

from pg_envelope_client import statements
from pg_envelope_client.statements import Query

ODD = "x'); DROP TABLE customer; -- %s"

MADE = {
    "create_key": statements.create_key(ODD, ODD, ODD),
    "grant_key": statements.grant_key(ODD, ODD),
    "revoke_key": statements.revoke_key(ODD, ODD),
    "rotate_key": statements.rotate_key(ODD),
    "rotate_secret": statements.rotate_secret(ODD),
    "rotate_table": statements.rotate_table(ODD),
    "rotate_field": statements.rotate_field(ODD, ODD),
    "rotate_emergency": statements.rotate_emergency(ODD, ODD),
    "rotate_kek": statements.rotate_kek(ODD),
    "search_advice": statements.search_advice(ODD, ODD, ODD, ODD),
    "allow_upsert": statements.allow_upsert(ODD),
    "drop_upsert": statements.drop_upsert(ODD),
    "add_search": statements.add_search(ODD, ODD, ODD, {"normalize": ODD}, statements.BatchArguments(10, 20, 30)),
    "rotate_search": statements.rotate_search(ODD, ODD, ODD, ODD, statements.BatchArguments(10, 20, 30)),
    "drop_search": statements.drop_search(ODD, ODD, ODD),
    "rewrap": statements.rewrap(ODD),
    "move_kek": statements.move_kek(ODD, ODD, ODD, ODD, ODD),
    "tenant_kek": statements.tenant_kek(ODD, ODD, ODD, ODD),
    "suspend_table": statements.suspend_table(ODD, ODD, ODD),
    "unsuspend_table": statements.unsuspend_table(ODD, ODD),
    "key_exists": statements.key_exists(ODD),
    "table_exists": statements.table_exists(ODD),
    "protect": statements.protect(ODD, {ODD: {"bind": ODD}}, ODD, ODD),
    "unprotect": statements.unprotect(ODD, ODD, columns=[ODD]),
    "verify": statements.verify(ODD, 1000, 0, True),
    "faults": statements.faults(ODD),
    "verifications": statements.verifications(ODD),
    "reencrypt": statements.reencrypt(ODD, statements.BatchArguments(), 1, 2, True),
    "progress": statements.progress(ODD),
    "pause": statements.pause(ODD),
    "resume": statements.resume(ODD),
    "abort": statements.abort(ODD),
    "rotate_due": statements.rotate_due(True),
    "set_schedule": statements.set_schedule(ODD, ODD, ODD, ODD, ODD, True),
    "receipts": statements.receipts(ODD),
    "register_backup": statements.register_backup(ODD, ODD, ODD),
    "finish_backup": statements.finish_backup(ODD),
    "keep_backup": statements.keep_backup(ODD, ODD),
    "forget_backup": statements.forget_backup(ODD),
    "access": statements.access(True),
    "affected": statements.affected(ODD, ODD),
    "shred": statements.shred(ODD, ODD, ODD),
    "shred_key": statements.shred_key(ODD, ODD),
    "keys_backup": statements.keys_backup(0, 200),
    "keys_return_key": statements.keys_return_key(ODD),
    "keys_return": statements.keys_return(ODD, ODD, [1], [ODD]),
    "rekey": statements.rekey(ODD, ODD, ODD),
    "sign_report": statements.sign_report({ODD: ODD}),
}


def numbered(statement: Query) -> str:
    """The SQL as the server gets it, with $1, $2 for %s."""
    parts = statement.sql.split("%s")
    numbers = (f"${number}" for number in itertools.count(1))
    return parts[0] + "".join(number + part for number, part in zip(numbers, parts[1:], strict=False))


@pytest.mark.parametrize("statement", MADE.values(), ids=MADE.keys())
def test_values_are_parameters(statement: Query) -> None:
    assert "DROP" not in statement.sql
    assert statement.sql.count("%s") == len(statement.values) > 0
    assert len(parse_sql(numbered(statement))) == 1


def test_every_statement_is_covered() -> None:
    makers = {
        name
        for name, made in inspect.getmembers(statements, inspect.isfunction)
        if made.__module__ == statements.__name__
    }
    assert makers == set(MADE)


@pytest.mark.parametrize(
    "statement",
    [
        statements.KEYS,
        statements.COLUMNS,
        statements.STATUS,
        statements.DUE,
        statements.DUE_NOW,
        statements.SCHEDULES,
        statements.PROGRESS,
        statements.RECEIPTS,
    ],
)
def test_fixed_statements_parse(statement: Query) -> None:
    assert len(parse_sql(statement.sql)) == 1
    assert statement.values == ()


def test_protect_sends_columns_as_json() -> None:
    made = statements.protect("shop.customer", {"größe": {"pad": True}, "note": {}}, "main", None)
    table, columns, *rest = made.values
    assert (table, rest) == (
        "shop.customer",
        ["main", None, "table", None, None, "error", False, False, False, 200, 0, 64],
    )
    assert json.loads(columns) == {"größe": {"pad": True}, "note": {}}


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda pace: statements.protect("t", {"note": {}}, "main", None, pace=pace), 10),
        (lambda pace: statements.unprotect("t", "error", pace), 2),
    ],
    ids=["protect", "unprotect"],
)
def test_the_pace_is_sent_in_the_order_of_the_routine(made: Callable[..., Query], names: int) -> None:
    pace = statements.OnlineArguments(True, 11, 12, 13)
    assert made(pace).values[names : names + 4] == (True, 11, 12, 13)


def test_protect_sends_the_scope() -> None:
    scoping = statements.ScopeArguments("subject", "person", "shop.customer", "null")
    made = statements.protect("shop.bill", {"note": {}}, "main", "catalog", scoping)
    assert made.values[3:] == ("catalog", "subject", "person", "shop.customer", "null", False, False, False, 200, 0, 64)
