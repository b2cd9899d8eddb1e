"""Passwords: comparison in constant time, and hashing a column of plaintext passwords in place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hmac import compare_digest

from pg_envelope import errors
from pg_envelope.argon2id import argon2id, is_argon2id
from pg_envelope.backend.commits import begin
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.password_forms import is_foreign, is_locked, is_password
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import dataclass

NOTICE_SECONDS = 1.0
ROWS_PER_BLOCK = 50
MOST_WAITS = 3
BCRYPT_CHARACTERS = 60
COLUMN = """
SELECT c.relkind, t.typname AS type,
    CASE WHEN a.atttypmod > 4 THEN a.atttypmod - 4 END AS characters,
    (r.rolsuper OR pg_has_role(c.relowner, 'USAGE')) AS permitted
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = $2
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_roles r ON r.rolname = current_user
WHERE c.oid = $1"""
LEAVES = """
SELECT format('%I.%I', n.nspname, c.relname) AS sql, c.oid, c.relowner, c.relkind,
    c.relrowsecurity AND c.relforcerowsecurity AS hides
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1 AND c.relkind = 'r' OR c.oid IN (SELECT relid FROM pg_partition_tree($1) WHERE isleaf)
ORDER BY c.oid"""
SIZE = """
SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint AS blocks, c.reltuples AS rows
FROM pg_class c WHERE c.oid = $1"""
LEFT_BEHIND = (
    "Dead rows, WAL, replicas' WAL and backups still hold the old values; VACUUM FULL clears the table itself."
)


NO_PASSWORDS = (
    "verify_password() is false for all of them. Where one is a password after all: UPDATE that row with"
    " envelope.hash_password(...)."
)


class Passwords:
    """Carries out SQL's password functions."""

    def __init__(self, host: Host, guard: Guard) -> None:
        self._host = host
        self.argon2id = guard.plain(argon2id)
        self.is_argon2id = guard.plain(is_argon2id)
        self.same = guard.plain(same)
        self.hash_column = guard.plain(self._hash_column)

    def _hash_column(self, rel: str | None, column: str | None, batch_size: int | None) -> None:
        """Hashes a column in committed batches; a second call goes on after the first. Raises BadInput,
        NotPermitted, Unsupported.
        """
        if rel is None or column is None or batch_size is None or batch_size < 1:
            raise errors.BadInput("hash_passwords() needs a table, a column, and a batch_size of 1 or more")
        oid = self._host.relation(rel)
        self._check(self._host.row(COLUMN, ["oid", "name"], [oid, column]), column)
        leaves = [Leaf.of(row) for row in self._host.rows(LEAVES, ["oid"], [oid])]
        begin(self._host, "hash_passwords")
        runs = [Hashing(self._host, leaf, column, batch_size) for leaf in leaves]
        total = sum(run.run() for run in runs)
        self._tell_left([run.left_alone() for run in runs])
        self._host.notice(f"hash_passwords: {total} passwords hashed, none is left", hint=LEFT_BEHIND)

    def _tell_left(self, counts: list[tuple[int, int]]) -> None:
        locked, foreign = (sum(count) for count in zip(*counts, strict=True)) if counts else (0, 0)
        if locked or foreign:
            self._host.warning(
                f"hash_passwords left {locked + foreign} values alone, which are no passwords",
                detail=f"{locked} are empty or the mark of a locked account; {foreign} are hashes of another kind.",
                hint=NO_PASSWORDS,
            )

    def _check(self, found: Row | None, column: str) -> None:
        if found is None:
            raise errors.NotProtected("there is no such column", detail=column)
        if not found["permitted"]:
            raise errors.NotPermitted("hash_passwords() needs a superuser or the table's owner")
        if found["relkind"] not in ("r", "p"):
            raise errors.Unsupported(
                "hash_passwords() works on tables", hint="Hash the passwords first, then protect the table if need be."
            )
        if found["type"] not in ("text", "varchar"):
            raise errors.Unsupported("a password column must be text or varchar", detail=f"its type is {found['type']}")
        if found["characters"] is not None and found["characters"] < BCRYPT_CHARACTERS:
            raise errors.BadInput(
                f"the column is too narrow for a hash: {found['characters']} of {BCRYPT_CHARACTERS} characters",
                hint="ALTER TABLE ... ALTER COLUMN ... TYPE text; a view or index may need to go before.",
            )


@dataclass(frozen=True)
class Leaf:
    """A table that holds rows itself: a plain table or a partition."""

    sql: str
    oid: int
    owner: int

    @classmethod
    def of(cls, row: Row) -> Leaf:
        if row["relkind"] != "r":
            raise errors.Unsupported("a partition is no ordinary table", detail=str(row["sql"]))
        if row["hides"]:
            raise errors.Unsupported(
                f"row-level security hides rows of {row['sql']} from its owner",
                hint="ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, and FORCE again when the passwords are hashed.",
            )
        return cls(str(row["sql"]), int(row["oid"]), int(row["relowner"]))


class Hashing:
    """Hashes one table's passwords in batches. In one statement a row is locked, looked at again, and hashed."""

    def __init__(self, host: Host, leaf: Leaf, column: str, batch_size: int) -> None:
        self._host = host
        self._leaf = leaf
        self._owner = AsOwner(host, leaf.owner)
        self._batch_size = batch_size
        self._value = f"t.{ident(column)}::text"
        self._column = ident(column)
        self._done = 0
        self._told = time.monotonic()

    def run(self) -> int:
        """Passes over the table until nothing is plain; rows that others lock are waited for in later passes."""
        waits = 0
        while left := self._left():
            before = self._done
            self._one_pass(waiting=waits > 0)
            waits = 0 if self._done > before else waits + 1
            if waits > MOST_WAITS:
                raise errors.EnvelopeError(
                    f"{left} passwords of {self._leaf.sql} cannot be updated",
                    hint="Does a trigger keep them as they are?",
                )
        return self._done

    def _left(self) -> int:
        """Counts as the owner, because between two batches the name may come to stand for a view with the
        owner's code.
        """
        return self._owner.count(f"SELECT count(*) AS found FROM ONLY {self._leaf.sql} t WHERE {self._plain}")

    def left_alone(self) -> tuple[int, int]:
        """Returns how many values are marks of locked accounts, and how many are hashes that verify_password()
        does not read.
        """
        marks = [is_locked(self._value), is_foreign(self._value)]
        counts = ", ".join(f"count(*) FILTER (WHERE {mark}) AS n{place}" for place, mark in enumerate(marks))
        (found,) = self._owner.rows(f"SELECT {counts} FROM ONLY {self._leaf.sql} t")
        return found["n0"], found["n1"]

    @property
    def _plain(self) -> str:
        return is_password(self._value)

    def _one_pass(self, waiting: bool) -> None:
        blocks, step = self._size()
        for first, last in _ranges(blocks, step):
            touched = self._batch_size
            while touched == self._batch_size:
                touched = self._batch(first, last, waiting)
            self._tell(last, blocks)

    def _batch(self, first: int, last: int, waiting: bool) -> int:
        # The error of a constraint would show the row.
        try:
            touched = self._owner.run(self._statement(first, last, waiting))
        except Exception as error:
            passed = self._host.passed_on(error)
            if passed is None:
                raise
            passed.detail = None
            raise passed from None
        self._done += touched
        if touched:
            self._host.commit()
        return touched

    def _statement(self, first: int, last: int, waiting: bool) -> str:
        algorithm = f"CASE WHEN octet_length({self._value}) > 72 THEN 'argon2id' ELSE 'bcrypt' END"
        return (
            f"WITH plain AS MATERIALIZED (SELECT t.ctid FROM ONLY {self._leaf.sql} t"
            f" WHERE t.ctid >= '({first},0)' AND t.ctid < '({last},0)' AND {self._plain} LIMIT {self._batch_size}"
            f" FOR NO KEY UPDATE{'' if waiting else ' SKIP LOCKED'})"
            f" UPDATE ONLY {self._leaf.sql} t SET {self._column} = envelope.hash_password({self._value}, {algorithm})"
            " FROM plain WHERE t.ctid = plain.ctid"
        )

    def _tell(self, last: int, blocks: int) -> None:
        if time.monotonic() - self._told > NOTICE_SECONDS:
            self._host.notice(f"hash_passwords: {last} of {blocks} blocks, {self._done} passwords hashed")
            self._told = time.monotonic()

    def _size(self) -> tuple[int, int]:
        """The table's blocks, and how many of them hold about batch_size rows."""
        row = _only(self._host.row(SIZE, ["oid"], [self._leaf.oid]))
        per_block = row["rows"] / row["blocks"] if row["rows"] > 0 and row["blocks"] else ROWS_PER_BLOCK
        return int(row["blocks"]), max(1, int(self._batch_size / max(per_block, 1)))


def same(a: str, b: str) -> bool:
    """Compares in a time that depends on the lengths only."""
    return compare_digest(a.encode(), b.encode())


def _ranges(blocks: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(0, blocks, step):
        yield first, min(first + step, blocks)


def _only(row: Row | None) -> Row:
    if row is None:
        raise errors.EnvelopeError("a row of PostgreSQL's catalog is missing")
    return row
