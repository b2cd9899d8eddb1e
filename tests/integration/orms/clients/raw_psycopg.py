"""Does with psycopg what an application does, each operation from the same two rows on, and prints what each gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.rows import dict_row
from raw_steps import (
    ALL,
    CHANGED,
    COPIED,
    GROUP,
    IGNORE,
    IGNORE_TARGET,
    INSERT,
    INTO,
    MERGED,
    ROWS,
    STAR,
    TRUNCATE,
    UPDATE_SET,
    told,
)

PLAIN = INSERT.format(into="customer", given="%s, %s, %s")
UPSERT = INSERT.format(into=INTO, given="%s, %s, %s")
FIND = "SELECT email FROM customer WHERE login = %s"
GIVEN = ("ada", "new@example.org", None)
session = psycopg.connect("", autocommit=True)


def rows(text: Any, *values: Any, **how: Any) -> list[Any]:
    return session.execute(text, values or None, **how).fetchall()


def clean() -> None:
    session.execute("DELETE FROM purchase; DELETE FROM customer")
    with session.cursor() as cursor:
        cursor.executemany(PLAIN, ROWS)


def insert() -> object:
    done = session.execute(f"{PLAIN} RETURNING login, email, born", ("grace", "grace@example.org", "1906-12-09"))
    return done.rowcount, done.fetchall(), [(column.name, column.type_code) for column in done.description or ()]


def insert_many() -> object:
    with session.cursor() as cursor:
        cursor.executemany(f"{PLAIN} RETURNING email", [("b", None, None), ("c", "c@x", "2000-02-29")], returning=True)
        first = cursor.fetchone()
        cursor.nextset()
        return first, cursor.fetchone(), rows(ALL)


def pipeline() -> object:
    with session.pipeline():
        session.execute(PLAIN, ("p", "p@example.org", None))
        found = session.execute(FIND, ("p",))
        session.execute("UPDATE customer SET visits = visits + 1")
        return found.fetchone(), rows(ALL)


def by_name() -> object:
    return session.cursor(row_factory=dict_row).execute(ALL).fetchall()


def binary() -> object:
    found = session.cursor(binary=True).execute("SELECT email, born, visits FROM customer ORDER BY login")
    return found.fetchall(), session.execute(
        "SELECT login FROM customer WHERE email = %b", ("ada@example.org",)
    ).fetchall()


def prepared() -> object:
    return [rows(FIND, login, prepare=True) for login in ("ada", "alan", "nobody")]


def in_the_server() -> object:
    with session.transaction(), session.cursor("named") as cursor:
        cursor.execute(ALL)
        cursor.itersize = 1
        return list(cursor)


def scrolling() -> object:
    with session.transaction(), session.cursor("scrolled", scrollable=True) as cursor:
        cursor.execute(ALL)
        cursor.scroll(1)
        last = cursor.fetchone()
        cursor.scroll(0, mode="absolute")
        return last, cursor.fetchone()


def current() -> object:
    with session.transaction(), session.cursor("current") as cursor:
        cursor.execute("SELECT login FROM customer WHERE login = 'ada' FOR UPDATE")
        cursor.fetchone()
        where = "login = 'ada'" if CHANGED else 'CURRENT OF "current"'
        session.execute(f"UPDATE customer SET email = 'current@example.org' WHERE {where}")
    return rows(ALL)


def copy_in() -> object:
    with session.cursor().copy("COPY customer (login, email, born) FROM STDIN") as copy:
        copy.write_row(("copied", "copied@example.org", "2001-02-03"))
        copy.write_row(("empty", None, None))
    return rows(ALL)


def copy_binary() -> object:
    with session.cursor().copy("COPY customer (login, email, born) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["text", "text", "date"])
        copy.write_row(("copied", "copied@example.org", ROWS[0][2]))
    return rows(ALL)


def copy_out() -> object:
    with session.cursor().copy(f"COPY {COPIED} TO STDOUT") as copy:
        return sorted(copy.rows())


def savepoint() -> object:
    with session.transaction():
        try:
            with session.transaction():
                session.execute("UPDATE customer SET email = 'gone@example.org'")
                session.execute(PLAIN, ROWS[0])
        except psycopg.errors.UniqueViolation as error:
            told_of = error.diag.constraint_name
        return told_of, rows(ALL)


def roll_back() -> object:
    with session.transaction() as transaction:
        session.execute("UPDATE customer SET email = 'gone@example.org'")
        raise psycopg.Rollback(transaction)
    return rows(ALL)


def ignore() -> object:
    return session.execute(PLAIN + IGNORE, GIVEN).rowcount, rows(ALL)


def ignore_target() -> object:
    return session.execute(UPSERT + IGNORE_TARGET, GIVEN).rowcount, rows(ALL)


def upsert() -> object:
    done = session.execute(f"{UPSERT}{UPDATE_SET} RETURNING login", GIVEN)
    return done.fetchall(), rows(ALL)


def update() -> object:
    done = session.execute(
        "UPDATE customer SET email = %s, born = %s WHERE email = %s", ("x", "2000-01-01", ROWS[0][1])
    )
    return done.rowcount, rows(ALL)


def update_from() -> object:
    session.execute(
        "UPDATE customer SET email = v.email FROM (VALUES ('ada', 'y')) v (login, email) WHERE customer.login = v.login"
    )
    return rows(ALL)


def delete() -> object:
    return session.execute("DELETE FROM customer WHERE email = %s RETURNING email", (ROWS[0][1],)).fetchall()


def truncate() -> object:
    session.execute(TRUNCATE)
    return rows(ALL)


def cancelled() -> object:
    try:
        session.execute("SET statement_timeout = '50ms'; SELECT pg_sleep(5) FROM customer")
    except psycopg.errors.QueryCanceled:
        session.execute("RESET statement_timeout")
    return rows(ALL)


OPERATIONS: dict[str, Callable[[], object]] = {
    "insert": insert,
    "insert_many": insert_many,
    "pipeline": pipeline,
    "select": lambda: rows(ALL),
    "star": lambda: [column.name for column in session.execute(STAR).description or ()],
    "by_name": by_name,
    "by_value": lambda: rows("SELECT login FROM customer WHERE email = %s", ROWS[0][1]),
    "by_values": lambda: rows("SELECT login FROM customer WHERE email = ANY (%s)", [ROWS[0][1], "b"]),
    "by_part": lambda: rows("SELECT login FROM customer WHERE email LIKE %s", "ada%"),
    "by_time": lambda: rows("SELECT login FROM customer WHERE born < %s", "1900-01-01"),
    "order": lambda: rows("SELECT email FROM customer ORDER BY email DESC LIMIT 1 OFFSET 1"),
    "aggregate": lambda: rows(
        "SELECT count(DISTINCT email), max(born), string_agg(email, ',' ORDER BY login) FROM customer"
    ),
    "join": lambda: rows(MERGED),
    "binary": binary,
    "prepared": prepared,
    "in_the_server": in_the_server,
    "scrolling": scrolling,
    "current": current,
    "copy_in": copy_in,
    "copy_binary": copy_binary,
    "copy_out": copy_out,
    "lock": lambda: rows("SELECT email FROM customer WHERE login = %s FOR UPDATE SKIP LOCKED", "ada"),
    "savepoint": savepoint,
    "roll_back": roll_back,
    "update": update,
    "update_from": update_from,
    "delete": delete,
    "duplicate": lambda: session.execute(PLAIN, ROWS[0]).rowcount,
    "ignore": ignore,
    "ignore_target": ignore_target,
    "upsert": upsert,
    "group": lambda: rows(GROUP),
    "truncate": truncate,
    "cancelled": cancelled,
}
seen: dict[str, Any] = {}
for name, operation in OPERATIONS.items():
    clean()
    try:
        seen[name] = {"gave": operation()}
    except psycopg.Error as error:
        seen[name] = {"error": error.sqlstate}
session.close()
told(seen)
