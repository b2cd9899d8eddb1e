"""Does with asyncpg what an application does, each operation from the same two rows on, and prints what each gave."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from raw_steps import (
    ALL,
    CHANGED,
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

PLAIN = INSERT.format(into="customer", given="$1, $2, $3")
# A protected column of the upsert relation takes texts.
UPSERT = INSERT.format(into=INTO, given="$1, $2, $3::date" if CHANGED else "$1, $2, $3")
FIND = "SELECT email FROM customer WHERE login = $1"
GIVEN = ("ada", "new@example.org", None)
COLUMNS = ["login", "email", "born"]


class Suite:
    def __init__(self, session: Any) -> None:
        self._session = session

    async def rows(self, text: str, *values: Any) -> list[Any]:
        return [list(row.values()) for row in await self._session.fetch(text, *values)]

    async def clean(self) -> None:
        await self._session.execute("DELETE FROM purchase; DELETE FROM customer")
        await self._session.executemany(PLAIN, ROWS)

    async def insert(self) -> object:
        row = await self._session.fetchrow(
            f"{PLAIN} RETURNING login, email, born", "grace", "g@x", dt.date(1906, 12, 9)
        )
        return dict(row), [type(value).__name__ for value in row.values()]

    async def insert_many(self) -> object:
        await self._session.executemany(PLAIN, [("b", None, None), ("c", "c@x", dt.date(2000, 2, 29))])
        return await self.rows(ALL)

    async def select(self) -> object:
        return await self.rows(ALL)

    async def star(self) -> object:
        return list((await self._session.fetchrow(STAR)).keys())

    async def described(self) -> object:
        statement = await self._session.prepare("SELECT email, born FROM customer WHERE email = $1")
        return [(a.name, a.type.name) for a in statement.get_attributes()], [t.name for t in statement.get_parameters()]

    async def by_value(self) -> object:
        return await self.rows("SELECT login FROM customer WHERE email = $1", ROWS[0][1])

    async def by_values(self) -> object:
        return await self.rows("SELECT login FROM customer WHERE email = ANY ($1)", [ROWS[0][1], "b"])

    async def by_time(self) -> object:
        return await self.rows("SELECT login FROM customer WHERE born < $1", dt.date(1900, 1, 1))

    async def join(self) -> object:
        return await self.rows(MERGED)

    async def one_value(self) -> object:
        return await self._session.fetchval(FIND, "ada"), await self._session.fetchval(FIND, "nobody")

    async def prepared(self) -> object:
        statement = await self._session.prepare(FIND)
        return [await statement.fetchval(login) for login in ("ada", "alan", "nobody")]

    async def in_the_server(self) -> object:
        async with self._session.transaction():
            return [list(row.values()) async for row in self._session.cursor(ALL, prefetch=1)]

    async def scrolling(self) -> object:
        async with self._session.transaction():
            cursor = await self._session.cursor(ALL)
            await cursor.forward(1)
            return list((await cursor.fetchrow()).values())

    async def copy_records(self) -> object:
        told_of = await self._session.copy_records_to_table(
            "customer", records=[("copied", "c@x", dt.date(2001, 2, 3)), ("empty", None, None)], columns=COLUMNS
        )
        return told_of, await self.rows(ALL)

    async def copy_text(self) -> object:
        source = io.BytesIO(b"copied\tc@x\t2001-02-03\n")
        return await self._session.copy_to_table("customer", source=source, columns=COLUMNS), await self.rows(ALL)

    async def copy_out(self) -> object:
        out = io.BytesIO()
        if CHANGED:
            await self._session.copy_from_query("SELECT login, email, born FROM customer", output=out)
        else:
            await self._session.copy_from_table("customer", output=out, columns=COLUMNS)
        return sorted(out.getvalue().decode().splitlines())

    async def lock(self) -> object:
        return await self.rows("SELECT email FROM customer WHERE login = $1 FOR UPDATE", "ada")

    async def savepoint(self) -> object:
        async with self._session.transaction():
            try:
                async with self._session.transaction():
                    await self._session.execute("UPDATE customer SET email = 'gone@example.org'")
                    await self._session.execute(PLAIN, *ROWS[0])
            except asyncpg.UniqueViolationError as error:
                told_of = error.constraint_name
            return told_of, await self.rows(ALL)

    async def update(self) -> object:
        text = "UPDATE customer SET email = $1, born = $2 WHERE email = $3"
        return await self._session.execute(text, "x", dt.date(2000, 1, 1), ROWS[0][1]), await self.rows(ALL)

    async def delete(self) -> object:
        return await self.rows("DELETE FROM customer WHERE email = $1 RETURNING email", ROWS[0][1])

    async def duplicate(self) -> object:
        return await self._session.execute(PLAIN, *ROWS[0])

    async def ignore(self) -> object:
        return await self._session.execute(PLAIN + IGNORE, *GIVEN), await self.rows(ALL)

    async def ignore_target(self) -> object:
        return await self._session.execute(UPSERT + IGNORE_TARGET, *GIVEN), await self.rows(ALL)

    async def upsert(self) -> object:
        return await self.rows(f"{UPSERT}{UPDATE_SET} RETURNING login", *GIVEN), await self.rows(ALL)

    async def upsert_many(self) -> object:
        await self._session.executemany(UPSERT + UPDATE_SET, [GIVEN, ("new", None, dt.date(2000, 2, 29))])
        return await self.rows(ALL)

    async def group(self) -> object:
        return await self.rows(GROUP)

    async def truncate(self) -> object:
        await self._session.execute(TRUNCATE)
        return await self.rows(ALL)


OPERATIONS = [name for name in vars(Suite) if not name.startswith("_") and name not in ("rows", "clean")]


async def main() -> None:
    session = await asyncpg.connect()
    suite, seen = Suite(session), {}
    for name in OPERATIONS:
        await suite.clean()
        operation: Callable[[], Awaitable[object]] = getattr(suite, name)
        try:
            seen[name] = {"gave": await operation()}
        except asyncpg.PostgresError as error:
            seen[name] = {"error": error.sqlstate}
    await session.close()
    told(seen)


asyncio.run(main())
