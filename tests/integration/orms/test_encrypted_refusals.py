"""What columns of Encrypted(...) cannot do is refused: by Core and ORM, synchronous and asynchronous, on both sides."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    LargeBinary,
    Table,
    asc,
    bindparam,
    case,
    cast,
    create_engine,
    func,
    insert,
    literal,
    select,
    tuple_,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, distinct_on
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pg_envelope_client.sqlalchemy import install
from tests.fix_stack import Database
from tests.integration.orms import fix_sealed, fix_shop
from tests.integration.orms.fix_sealed import engine_of, fill, shop
from tests.integration.orms.test_encrypted_shapes import Member, members
from tests.integration.sealing.conftest import door, door_place, folder, run
from tests.integration.sealing.fix_door import DoorOfTests

__all__ = ["door", "door_place", "folder", "members", "run"]
BORN = dt.date(1815, 12, 10)
ADA, ALAN, KURT = (uuid.UUID(int=number) for number in (1, 2, 3))
Customer: Any = fix_sealed.Customer
Item: Any = fix_sealed.Item
WORDS = "encrypted|bound to|its row is not known|in the same UPDATE"


class Core:
    """A table that is written as a model is: `Core(table).email` is the column."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __clause_element__(self) -> Table:
        return self._table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table.c, name)


TEXT = "Ada@secret.example"
REFUSED: dict[str, Callable[[], Any]] = {
    "like": lambda: select(Customer).where(Customer.email.like("a%")),
    "ilike": lambda: select(Customer).where(Customer.email.ilike("a%")),
    "startswith": lambda: select(Customer).where(Customer.email.startswith("a")),
    "gt": lambda: select(Customer).where(Customer.email > TEXT),
    "between": lambda: select(Customer).where(Customer.email.between("a", TEXT)),
    "reversed": lambda: select(TEXT + Customer.email),
    "concat": lambda: select(Customer.email + TEXT),
    "desc": lambda: select(Customer).order_by(Customer.email.desc()),
    "order": lambda: select(Customer).order_by(Customer.email),
    "order by another table's": lambda: select(Customer.login).join(Item).order_by(Item.label),
    "order by a function": lambda: select(Customer.login).order_by(func.lower(Customer.email)),
    "order by nulls last": lambda: select(Customer.login).order_by(asc(Customer.email).nulls_last()),
    "order by a cast": lambda: select(Customer.login).order_by(cast(Customer.email, LargeBinary)),
    "order by a subquery's": lambda: select(mail := select(Customer.id, Customer.email).subquery()).order_by(
        mail.c.email
    ),
    "order of a window": lambda: select(func.row_number().over(order_by=Customer.email)),
    "order of an aggregate": lambda: select(func.array_agg(aggregate_order_by(Customer.login, Customer.email))),
    "order of any aggregate": lambda: select(func.array_agg(Customer.login).aggregate_order_by(Customer.email)),
    "order within a group": lambda: select(func.mode().within_group(Customer.email)),
    "order of a union": lambda: union_all(
        select(Customer.id, Customer.email), select(Customer.id, Customer.email)
    ).order_by("email"),
    "order by label": lambda: select(Customer.email.label("e")).order_by("e"),
    "group": lambda: select(func.count()).group_by(Customer.email),
    "distinct": lambda: select(Customer.email).distinct(),
    "distinct on": lambda: select(Customer.id).ext(distinct_on(Customer.email)),
    "union": lambda: union(select(Customer.email), select(Customer.email)),
    "function": lambda: select(func.lower(Customer.email)),
    "function in where": lambda: select(Customer.id).where(func.lower(Customer.email) == TEXT),
    "max": lambda: select(func.max(Customer.email)),
    "column": lambda: select(Customer).where(Customer.email == Customer.login),
    "columns": lambda: select(Customer).join(Item, Item.label == Customer.email),
    "no search column": lambda: select(Customer).where(Customer.born == BORN),
    "in query": lambda: select(Customer).where(Customer.email.in_(select(Customer.email))),
    "None in in_": lambda: select(Customer).where(Customer.email.in_([None, TEXT])),
    "text in in_": lambda: select(Customer).where(Customer.email.in_(TEXT)),
    "tuple": lambda: select(Customer).where(tuple_(Customer.id, Customer.email).in_([(ADA, TEXT)])),
    "without the key": lambda: select(select(Customer.email).subquery()),
    "scalar subquery": lambda: select(select(Customer.email).limit(1).scalar_subquery()),
    "search in a subquery": lambda: select(select(Customer.email, Customer.id).subquery().c.email == TEXT),
    "bulk update": lambda: update(Customer).values(email=TEXT),
    "bulk update by others": lambda: update(Customer).where(Customer.login == "ada").values(email=TEXT),
    "bulk update of several": lambda: update(Customer).where(Customer.id.in_([ADA, ALAN])).values(email=TEXT),
    "update with or": lambda: update(Customer).where((Customer.id == ADA) | (Customer.id == ALAN)).values(email=TEXT),
    "update by expression": lambda: update(Customer).where(Customer.id == ADA).values(email=func.lower(TEXT)),
    "update by literal": lambda: update(Customer).where(Customer.id == ADA).values(email=literal(TEXT) + "x"),
    "update of the key by an expression": lambda: (
        update(Customer).where(Customer.id == ADA).values(id=func.gen_random_uuid(), email=TEXT, born=None)
    ),
    "update of the key by a named parameter": lambda: (
        update(Customer).where(Customer.id == ADA).values(id=bindparam("other", KURT), email=TEXT, born=None)
    ),
    "update of the key": lambda: update(Customer).where(Customer.id == ADA).values(id=KURT),
    "insert by literal": lambda: insert(Customer).values(id=ADA, email=literal(TEXT)),
    "update by a typed parameter": lambda: (
        update(Customer).where(Customer.id == ADA).values(email=bindparam("x", TEXT))
    ),
    "ordered values": lambda: update(Customer).where(Customer.id == ADA).ordered_values((Customer.email, TEXT)),
    "insert in a CTE": lambda: select(insert(Customer).values(id=ADA, email=TEXT).returning(Customer.id).cte().c.id),
    "named parameter": lambda: insert(Customer).values(id=ADA, email=bindparam("other", TEXT)),
    "insert by expression": lambda: insert(Customer).values(id=ADA, email=func.lower(TEXT)),
    "insert from select": lambda: insert(Customer).from_select(["id", "email"], select(Customer.id, Customer.email)),
    "insert with a key of the server": lambda: insert(Customer).values(id=func.gen_random_uuid(), email=TEXT),
    "conflict on another column": lambda: _upsert("login", "email"),
    "conflict sets a value": lambda: (
        pg_insert(Customer)
        .values(id=ADA, email=TEXT)
        .on_conflict_do_update(index_elements=["id"], set_={"email": TEXT})
    ),
    "conflict moves the key": lambda: _upsert("login", "id"),
    "conflict on the column": lambda: _upsert("email", "email"),
    "literal": lambda: select(literal(TEXT, Customer.email.type)),
}


def _upsert(target: str, *names: str) -> Any:
    put = pg_insert(Customer).values(id=ADA, login="ada", email=TEXT)
    return put.on_conflict_do_update(index_elements=[target], set_={name: put.excluded[name] for name in names})


def execute_all(session: Session | Connection) -> None:
    """Each statement is refused, and its error shows no value."""
    for name, make in REFUSED.items():
        with pytest.raises(InvalidRequestError) as refused:
            pytest.fail(f"{name} gave {session.execute(make())}")
        assert refused.match(WORDS), name
        assert TEXT not in str(refused.value), name
        session.rollback()


@pytest.mark.parametrize("way", ["orm", "core"])
def test_what_cannot_work_is_refused_with_a_clear_error(
    door: DoorOfTests, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    fill(door.db)
    keys = shop(door)
    caplog.set_level("DEBUG")
    if way == "core":
        for model in (fix_sealed.Customer, fix_sealed.Item):
            monkeypatch.setitem(globals(), model.__name__, Core(model.__table__))  # type: ignore[arg-type]
    with engine_of(door, keys) as engine, Session(engine) if way == "orm" else engine.connect() as session:
        execute_all(session)

    async def suite() -> None:
        made = create_async_engine(fix_shop.url(door.db, "asyncpg"))
        install(made, keys)
        async with AsyncSession(made) if way == "orm" else made.connect() as session:
            await session.run_sync(execute_all)
        await made.dispose()

    asyncio.run(suite())
    assert door.db.one("SELECT count(*) FROM customer") == 0
    assert TEXT not in caplog.text


def test_an_order_by_whether_there_is_a_value_works(door: DoorOfTests) -> None:
    fill(door.db)
    with engine_of(door, shop(door)) as engine, Session(engine) as session, session.begin():
        session.add_all([Customer(login="none"), Customer(login="some", email="ada@x")])
        session.flush()
        for first in (Customer.email.is_not(None), case((Customer.email.is_(None), 2), else_=1).desc()):
            found = session.scalars(select(Customer.login).order_by(first, Customer.login)).all()
            assert found == ["none", "some"]


# Of columns that the server seals. All else is computed by the server.
SERVED: dict[str, Callable[[], Any]] = {
    "like": lambda: select(Member.id).where(Member.email.like("a%")),
    "gt": lambda: select(Member.id).where(Member.fee > 1),
    "desc": lambda: select(Member.id).order_by(Member.email.desc()),
    "order": lambda: select(Member.id).order_by(Member.email),
    "order by name": lambda: select(Member.id, Member.email).order_by("email"),
    "order by label": lambda: select(Member.id, Member.email.label("e")).order_by("e"),
    "order by a function": lambda: select(Member.id).order_by(func.lower(Member.email)),
    "order by an aggregate": lambda: select(func.max(Member.email)).order_by(func.max(Member.email)),
    "order of a window": lambda: select(func.row_number().over(order_by=[Member.id, Member.email])),
    "order of an aggregate": lambda: select(func.array_agg(aggregate_order_by(Member.id, Member.email))),
    "order of any aggregate": lambda: select(func.array_agg(Member.id).aggregate_order_by(Member.email)),
    "order within a group": lambda: select(func.mode().within_group(Member.email)),
    "order of a union": lambda: union_all(select(Member.email), select(Member.email)).order_by("email"),
    "order of an inner query": lambda: select(select(Member.id).order_by(Member.email).limit(1).subquery()),
    "no search column": lambda: select(Member.id).where(Member.born == BORN),
}


def computed(session: Session) -> list[Any]:
    """What columns that the application seals refuse, and the server can do."""
    for email in ("First@x", "Second@x"):
        put = pg_insert(Member).values(id=1, email=email)
        session.execute(put.on_conflict_do_update(index_elements=["id"], set_={"email": put.excluded.email}))
    session.execute(insert(Member).from_select(["id", "email"], select(Member.id + 1, func.upper(Member.email))))
    seen: list[Any] = [
        session.execute(select(Member.id, Member.email).order_by(Member.id)).all(),
        session.scalars(select(func.lower(Member.email)).distinct()).all(),
        session.execute(select(func.lower(Member.email), func.count()).group_by(func.lower(Member.email))).all(),
        len(session.scalars(union(select(Member.email), select(func.upper(Member.email)))).all()),
    ]
    session.execute(update(Member).values(email="All@x"))
    session.execute(update(Member).where(Member.email == "ALL@x", Member.id == 2).values(id=7, email=None))
    return [*seen, session.execute(select(Member.id, Member.email).order_by(Member.id)).all()]


COMPUTED = [
    [(1, "Second@x"), (2, "SECOND@X")],
    ["second@x"],
    [("second@x", 2)],
    2,
    [(1, "All@x"), (7, None)],
]


def test_what_the_server_seals_it_also_computes(members: Database) -> None:
    members.sql("CALL envelope.allow_upsert('member')")
    engine = create_engine(fix_shop.url(members, "psycopg"))
    install(engine)
    with Session(engine) as session:
        assert computed(session) == COMPUTED
    engine.dispose()

    async def suite() -> list[Any]:
        made = create_async_engine(fix_shop.url(members, "asyncpg"))
        install(made)
        async with AsyncSession(made) as session:
            found = await session.run_sync(computed)
        await made.dispose()
        return found

    assert asyncio.run(suite()) == COMPUTED


def test_what_the_server_seals_has_no_order_either(members: Database) -> None:
    def refused(session: Session) -> None:
        for name, make in SERVED.items():
            with pytest.raises(InvalidRequestError, match="encrypted"):
                pytest.fail(f"{name} gave {session.execute(make())}")
            session.rollback()
        session.add_all([Member(email="b@x"), Member()])
        session.flush()
        found = session.scalars(select(Member.email).order_by(Member.email.is_(None), Member.id))
        assert found.all() == ["b@x", None]
        assert session.scalar(select(func.max(Member.email)).group_by(Member.email).limit(1)) in ("b@x", None)

    engine = create_engine(fix_shop.url(members, "psycopg"))
    install(engine)
    with Session(engine) as session:
        refused(session)
    engine.dispose()

    async def suite() -> None:
        made = create_async_engine(fix_shop.url(members, "asyncpg"))
        install(made)
        async with AsyncSession(made) as session:
            await session.run_sync(refused)
        await made.dispose()

    asyncio.run(suite())
