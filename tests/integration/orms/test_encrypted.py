"""Columns of type Encrypted(...): the application seals and opens, and the view sees the same rows."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import (
    Engine,
    MetaData,
    bindparam,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, aliased, contains_eager, joinedload, load_only, selectinload

from pg_envelope import errors
from pg_envelope_client import KeyClient
from pg_envelope_client.sqlalchemy import install
from tests.fix_stack import Database, Fill, Maker
from tests.integration.orms import fix_shop
from tests.integration.orms.fix_sealed import Base, Customer, Item, engine_of, fill, shop
from tests.integration.orms.test_page import BLOCK, ROOT
from tests.integration.sealing.conftest import door, door_place, folder, run
from tests.integration.sealing.fix_door import DoorOfTests

__all__ = ["door", "door_place", "folder", "run"]
COMPARED = {"compare_type": True, "compare_server_default": True}
BORN = dt.date(1815, 12, 10)
ADA, ALAN, KURT = (uuid.UUID(int=number) for number in (1, 2, 3))


@pytest.fixture
def own_keys() -> None:
    """For tests that suspend keys: the broker would do it to all copies."""


@pytest.fixture
def db(request: pytest.FixtureRequest, make_db: Maker, filled: Callable[[Fill], Database]) -> Database:
    """A database with the tables of the shop."""
    if "own_keys" not in request.fixturenames:
        return filled(fill)
    made = make_db()
    fill(made)
    return made


@pytest.fixture
def keys(door: DoorOfTests) -> KeyClient:
    return shop(door)


@pytest.fixture
def engine(door: DoorOfTests, keys: KeyClient) -> Iterator[Engine]:
    with engine_of(door, keys) as made:
        yield made


def used(session: Session) -> list[Any]:
    """What applications do, with the values that each step saw."""
    ada = Customer(id=ADA, login="ada", email="Ada@example.org", born=BORN)
    ada.items = [Item(label=f"label {number}", price=number) for number in range(3)]
    session.add_all([ada, Customer(id=ALAN, login="alan", email="alan@example.org"), Customer(login="bare")])
    session.flush()
    session.execute(
        insert(Customer), [{"id": KURT, "email": "kurt@example.org", "born": BORN}, {"id": uuid.UUID(int=4)}]
    )
    table = Customer.__table__
    session.execute(table.insert().values([{"login": f"m{n}", "email": f"m{n}@x", "born": None} for n in range(2)]))
    labels = [{"label": f"bulk {number}", "customer_id": KURT} for number in range(4)]
    back = session.execute(insert(Item).returning(Item.label, Item.id, sort_by_parameter_order=True), labels).all()
    seen: list[Any] = [[row.label for row in back], len({row.id for row in back})]
    session.expire_all()
    seen.append(ada.email)
    ada.email, ada.login = "countess@example.org", "countess"
    ada.items.pop()
    session.flush()
    session.refresh(ada)
    seen += [ada.email, ada.born, sorted(str(one.label) for one in ada.items)]
    ada.login = "ada"
    session.flush()
    session.execute(update(Customer).where(Customer.id == ALAN, Customer.login.in_(["alan"])).values(born=BORN))
    session.execute(update(Customer), [{"id": ALAN, "email": "turing@example.org"}])
    session.expire_all()
    query = select(Customer).order_by(Customer.login, Customer.id)
    seen += [[(one.login, one.email, one.born) for one in session.scalars(query)]]
    seen += [_found(session)]
    for load in (selectinload, joinedload):
        session.expire_all()
        loaded = (
            session.scalars(select(Customer).options(load(Customer.items)).where(Customer.id == KURT)).unique().one()
        )
        seen.append(sorted(str(one.label) for one in loaded.items))
    session.delete(session.get_one(Customer, ALAN))
    session.execute(delete(Customer).where(Customer.email == "m1@X"))
    session.flush()
    seen.append(session.scalar(select(func.count()).select_from(Customer)))
    return seen


def _found(session: Session) -> list[Any]:
    other = aliased(Customer)
    inner = select(Customer.id, Customer.email, Customer.born).where(Customer.login == "ada").subquery()
    joined = select(Customer.login, Item.label).join(Item).where(Customer.email == "countess@EXAMPLE.org")
    return [
        session.scalars(select(Customer.login).where(Customer.email == "COUNTESS@example.org ")).all(),
        session.scalars(select(Customer.login).filter_by(email="turing@example.org")).all(),
        sorted(session.scalars(select(Customer.email).where(Customer.email.in_(["m0@x", "nobody", "m1@x"])))),
        session.scalars(select(Customer.email).where(Customer.email.in_([]))).all(),
        session.scalar(select(func.count()).where(Customer.email.is_(None))),
        session.scalar(select(func.count()).where(Customer.email != "turing@example.org")),
        session.scalar(select(func.count()).where(Customer.email.not_in(["turing@example.org"]))),
        session.scalar(select(func.count()).where(Customer.born.is_not(None))),
        session.scalars(select(other.email).where(other.email == "turing@example.org")).all(),
        [tuple(row) for row in session.execute(select(inner.c.email, inner.c.born))],
        sorted(tuple(row) for row in session.execute(joined)),
        session.scalars(select(Customer.email.label("e")).where(Customer.login == "ada")).all(),
        session.scalars(select(Customer.email).where(Customer.email == bindparam("x")), {"x": "m0@x"}).all(),
        session.scalars(select(Customer.login).where(Customer.email == "m0@x").with_for_update()).all(),
        sorted(
            session.scalars(
                union_all(
                    select(Customer.email).where(Customer.login == "m0"), select(other.email).where(other.login == "m1")
                )
            )
        ),
    ]


SEEN = [
    ["bulk 0", "bulk 1", "bulk 2", "bulk 3"],
    4,
    "Ada@example.org",
    "countess@example.org",
    BORN,
    ["label 0", "label 1"],
    [
        ("ada", "countess@example.org", BORN),
        ("alan", "turing@example.org", BORN),
        ("bare", None, None),
        ("m0", "m0@x", None),
        ("m1", "m1@x", None),
        (None, "kurt@example.org", BORN),
        (None, None, None),
    ],
    [
        ["ada"],
        ["alan"],
        ["m0@x", "m1@x"],
        [],
        2,
        4,
        4,
        3,
        ["turing@example.org"],
        [("countess@example.org", BORN)],
        [("ada", "label 0"), ("ada", "label 1")],
        ["countess@example.org"],
        ["m0@x"],
        ["m0"],
        ["m0@x", "m1@x"],
    ],
    ["bulk 0", "bulk 1", "bulk 2", "bulk 3"],
    ["bulk 0", "bulk 1", "bulk 2", "bulk 3"],
    5,
]


def test_what_applications_do(door: DoorOfTests, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        assert used(session) == SEEN
    # The server reads the same through the view, and its search column finds what the application wrote.
    assert door.db.sql("SELECT email, born FROM customer WHERE login = 'ada'") == [("countess@example.org", BORN)]
    assert door.db.one("SELECT login FROM customer WHERE email_search = 'countess@example.org'::text") == "ada"
    assert door.db.sql("SELECT label FROM item WHERE label LIKE 'bulk%' ORDER BY id")[3] == ("bulk 3",)
    assert door.db.sql("SELECT * FROM envelope.faults") == []
    for table in ("customer", "item"):
        door.db.sql(f"CALL envelope.verify('{table}')")
    assert door.db.sql("SELECT * FROM envelope.faults") == []


def test_an_asynchronous_engine_does_the_same(door: DoorOfTests, keys: KeyClient) -> None:
    async def suite() -> list[Any]:
        made = create_async_engine(fix_shop.url(door.db, "asyncpg"))
        install(made, keys)
        async with AsyncSession(made) as session, session.begin():
            found = await session.run_sync(used)
        await made.dispose()
        return found

    assert asyncio.run(suite()) == SEEN
    assert door.db.one("SELECT login FROM customer WHERE email_search = 'countess@example.org'::text") == "ada"


def test_other_ways_to_read_and_write(door: DoorOfTests, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(
            Customer(id=ADA, login="ada", email="ada@x", born=BORN, items=[Item(label="one"), Item(label="two")])
        )
        session.flush()
        session.expunge_all()
        first = select(Customer).options(joinedload(Customer.items)).order_by(Customer.login).limit(1)
        assert {item.label for item in session.scalars(first).unique().one().items} == {"one", "two"}
        session.expunge_all()
        light = session.scalars(select(Customer).options(load_only(Customer.login))).one()
        assert light.email == "ada@x"
        assert (
            session.execute(select(Customer.email, Customer.email, Customer.email.label("e"))).one() == ("ada@x",) * 3
        )
        joined = (
            select(Item).join(Item.customer).options(contains_eager(Item.customer)).where(Customer.email == "ADA@x")
        )
        assert [item.customer.email for item in session.scalars(joined)] == ["ada@x", "ada@x"]
        known = select(Customer.email).where(Customer.items.any(Item.label.is_not(None)))
        assert session.scalars(known.with_for_update(of=Customer)).all() == ["ada@x"]
        cte = select(Customer.id, Customer.email.label("mail")).cte("c")
        assert session.scalars(select(cte.c.mail).join(Customer, Customer.id == cte.c.id)).all() == ["ada@x"]
        entity = aliased(Customer, select(Customer).where(Customer.email == "ada@x").subquery())
        assert session.scalars(select(entity.email)).all() == ["ada@x"]
        assert session.get_one(Item, light.items[0].id).label in ("one", "two")
        put = update(Customer).where(Customer.id == ADA).values(email="new@x").returning(Customer.email, Customer.born)
        assert [tuple(row) for row in session.execute(put)] == [("new@x", BORN)]
        moved = {"id": KURT, "email": "moved@x", "born": BORN}
        session.execute(update(Item).values(customer_id=None))
        session.execute(update(Customer.__table__).where(Customer.id == ADA).values(moved))
        session.expunge_all()
        assert session.scalar(select(Customer.id).where(Customer.email == "moved@x")) == KURT
        assert session.scalar(select(Customer.email)) == "moved@x"
        gone = session.execute(delete(Item).where(Item.label.is_not(None)).returning(Item.label))
        assert sorted(gone.scalars()) == ["one", "two"]


def test_the_view_writes_and_the_application_reads(door: DoorOfTests, engine: Engine) -> None:
    door.db.sql("INSERT INTO customer VALUES (%s, 'ada', 'ada@example.org', %s)", ADA, BORN)
    with Session(engine) as session, session.begin():
        (found,) = session.scalars(select(Customer).where(Customer.email == "ADA@example.org"))
        assert (found.email, found.born) == ("ada@example.org", BORN)
        found.email = None
    assert door.db.sql("SELECT email, born FROM customer WHERE email_search IS NULL") == [(None, BORN)]


TEXT = "Ada@secret.example"


def test_hostile_input(door: DoorOfTests, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Each of these fails with a clear error, shows no value, and leaves nothing behind."""
    caplog.set_level("DEBUG")
    attempts: list[Callable[[Session], Any]] = [
        lambda session: session.execute(insert(Customer.__table__), [{"id": ADA, "email": TEXT}, {"id": ALAN}]),
        lambda session: session.execute(insert(Customer.__table__), {"id": ADA, "email": func.lower(TEXT)}),
        lambda session: session.execute(insert(Customer.__table__), {"id": str(ADA), "email": TEXT}),
        lambda session: session.execute(insert(Customer.__table__), {"id": ADA, "email": [TEXT]}),
        lambda session: session.execute(insert(Customer.__table__), {"id": ADA, "email": "\ud800" + TEXT}),
        lambda session: session.execute(insert(Customer.__table__), {"id": ADA, "email": b"\xe1" + TEXT.encode()}),
        lambda session: session.execute(insert(Customer.__table__), {"id": ADA, "email": TEXT, "email_search": "x"}),
        lambda session: session.execute(update(Customer.__table__).where(Customer.id == ADA), {"email_search": TEXT}),
        lambda session: session.execute(select(Customer).where(Customer.email.in_([TEXT, 7]))),
        lambda session: session.execute(select(Customer).where(Customer.email == bindparam("x")), {"x": [TEXT]}),
        lambda session: session.execute(
            select(Customer).where(Customer.email == TEXT).with_only_columns(Customer.born.in_([BORN]))
        ),
        lambda session: (select(Customer).where(Customer.email == TEXT)).compile(
            engine, compile_kwargs={"literal_binds": True}
        ),
        lambda session: (
            insert(Customer).values(id=ADA, email=TEXT).compile(engine, compile_kwargs={"literal_binds": True})
        ),
        lambda session: [session.add(Customer(id=ADA, email=func.lower(TEXT))), session.flush()],
        lambda session: [session.add(Customer(id=ADA, email=literal(TEXT))), session.flush()],
        lambda session: [session.add(Customer(id=ADA, email=TEXT, born=TEXT)), session.flush()],
        lambda session: session.execute(insert(Item).values(label=TEXT, id=func.nextval("item_id_seq"))),
    ]
    with Session(engine) as session:
        for number, attempt in enumerate(attempts):
            with pytest.raises((SQLAlchemyError, errors.EnvelopeError)) as failed:
                pytest.fail(f"attempt {number} gave {attempt(session)}")
            assert "secret.example" not in repr(failed.value) + str(failed.value) + str(vars(failed.value)), number
            session.rollback()
    assert door.db.one("SELECT count(*) FROM customer") == 0
    assert "secret.example" not in caplog.text


def test_an_envelope_that_was_moved_does_not_open(door: DoorOfTests, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all([Customer(id=ADA, email="ada@x"), Customer(id=ALAN, email="alan@x")])
    swap = "UPDATE customer_encrypted c SET email = o.email FROM customer_encrypted o WHERE o.id <> c.id"
    door.db.sql("SET session_replication_role = replica; " + f"{swap} AND c.id = '{ADA}'")
    with Session(engine) as session:
        with pytest.raises(errors.InvalidEnvelope):
            session.scalars(select(Customer)).all()
        assert session.scalars(select(Customer.email).where(Customer.id == ALAN)).all() == ["alan@x"]


def test_a_copy_of_the_table_works(door: DoorOfTests, engine: Engine) -> None:
    copy = Customer.__table__.to_metadata(MetaData())
    with engine.begin() as connection:
        connection.execute(copy.insert().values([{"email": "a@x"}, {"email": null()}, {"email": None}]))
        assert connection.execute(select(copy).where(copy.c.email == "A@x")).one().email == "a@x"
        connection.execute(Item.__table__.insert().values([{"label": "one"}, {"label": "two"}]))
    assert sorted(door.db.sql("SELECT label FROM item")) == [("one",), ("two",)]


def test_upserts_by_the_row_key(door: DoorOfTests, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        for email in ("first@example.org", "second@example.org"):
            put = pg_insert(Customer).values(id=ADA, email=email)
            changed = {"email": put.excluded.email, "login": "ada"}
            session.execute(put.on_conflict_do_update(index_elements=[Customer.id], set_=changed))
        nothing = pg_insert(Customer).values(id=ADA, email="no").on_conflict_do_nothing()
        session.execute(nothing)
        assert session.scalar(select(Customer.email).where(Customer.email == "second@example.org")) is not None
        assert session.scalar(select(Customer.email).where(Customer.email == "first@example.org")) is None
        put = pg_insert(Customer).values(id=ADA, login="x")
        session.execute(put.on_conflict_do_update(index_elements=["id"], set_={"email": null()}))
    assert door.db.sql("SELECT login, email FROM customer WHERE email_search IS NULL") == [("ada", None)]


def test_nothing_shows_a_value(
    door: DoorOfTests, keys: KeyClient, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    with engine_of(door, keys, echo="debug") as engine, Session(engine) as session:
        session.add(Customer(id=ADA, email=TEXT, login="ada"))
        session.commit()
        failures: list[Callable[[], Any]] = [
            lambda: session.execute(insert(Customer).values(id=ADA, email=TEXT)),
            lambda: session.execute(insert(Customer), [{"id": ADA, "email": TEXT}, {"id": ADA, "email": TEXT}]),
            lambda: session.execute(insert(Customer).values(id=ALAN, email=TEXT.encode())),
            lambda: session.execute(insert(Customer).values(id=TEXT, email=TEXT)),
            lambda: session.execute(select(Customer).where(Customer.email == 7)),
            lambda: session.execute(insert(Customer).values(id=ALAN, email=TEXT + "\0")),
            lambda: session.execute(insert(Customer).values(id=ALAN, email=TEXT, born=TEXT)),
        ]
        shown = []
        for fail in failures:
            with pytest.raises(Exception) as failed:  # noqa: PT011
                fail()
            error: BaseException | None = failed.value
            while error is not None:
                shown.append(repr(error) + str(error) + str(vars(error)))
                error = error.__cause__ or error.__context__
            session.rollback()
    with engine_of(door, None) as bare, Session(bare) as session:
        for query in (insert(Customer).values(id=ADA, email=TEXT), select(Customer).where(Customer.email == TEXT)):
            with pytest.raises(Exception) as failed:  # noqa: PT011
                session.execute(query)
            shown.append(repr(failed.value))
            session.rollback()
    out = capsys.readouterr()
    assert "INSERT INTO customer" in out.out + out.err + caplog.text
    assert "secret.example" not in out.out + out.err + caplog.text + "".join(shown)


@pytest.mark.usefixtures("own_keys")
def test_keys_change_under_a_running_application(door: DoorOfTests, keys: KeyClient, engine: Engine) -> None:
    db = door.db
    with Session(engine) as session, session.begin():
        session.add(Customer(id=ADA, email="ada@example.org", login="ada"))
    db.sql("SELECT envelope.rotate('customer')")
    keys.refresh()
    keys._ring._check_seconds = 3600
    with Session(engine) as session, session.begin():
        session.add(Customer(id=ALAN, email="alan@example.org"))
        assert set(session.scalars(select(Customer.email))) == {"ada@example.org", "alan@example.org"}
    db.sql("SELECT envelope.rotate('customer')")
    db.sql("CALL envelope.reencrypt('customer')")
    db.sql("CALL envelope.retire('customer', 2)")
    keys._ring._check_at = float("inf")
    with Session(engine) as session:
        session.add(Customer(id=KURT, email="kurt@example.org"))
        with pytest.raises(Exception, match="not active"):
            session.commit()
    keys._ring._check_seconds = keys._ring._check_at = 0.0
    # The refusal made the engine read the key catalog again.
    with Session(engine) as session, session.begin():
        session.add(Customer(id=KURT, email="kurt@example.org"))
    db.sql("CALL envelope.suspend('customer')")
    with Session(engine) as session, pytest.raises(errors.KeySuspended):
        session.scalars(select(Customer.email)).all()
    db.sql("CALL envelope.unsuspend('customer')")
    db.sql("SELECT envelope.revoke_client('customer', 'email', 'alice')")
    db.sql("SELECT envelope.flush('test')")
    with Session(engine) as session:
        with pytest.raises(errors.NotPermitted):
            session.scalars(select(Customer.email)).all()
        with pytest.raises(errors.NotPermitted):
            session.execute(insert(Customer).values(email="no"))
    assert db.one("SELECT count(*) FROM customer") == 3


def test_the_page_s_model_seals(door: DoorOfTests, monkeypatch: pytest.MonkeyPatch) -> None:
    page, readme = ((ROOT / name).read_text() for name in ("docs/orms.md", "README.md"))
    (block,) = (block for block in BLOCK.findall(page) if "Encrypted(" in block)
    assert block[block.index("class Customer") :] in readme
    keys = shop(door)
    with engine_of(door, keys) as engine:
        module = types.ModuleType("application")
        # SQLAlchemy looks there for the names of annotations.
        monkeypatch.setitem(sys.modules, "application", module)
        vars(module).update(engine=engine, keys=keys)
        exec(block, vars(module))
        model = module.Customer
        with Session(engine) as session, session.begin():
            session.add(model(id=ADA, email="ada@example.org"))
        with Session(engine) as session:
            assert session.scalars(select(model.id).where(model.email == "ADA@example.org")).all() == [ADA]
    assert door.db.one("SELECT email FROM customer") == "ada@example.org"


def test_alembic_sees_no_difference(door: DoorOfTests, keys: KeyClient) -> None:
    with engine_of(door, keys) as engine, engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=COMPARED)
        assert compare_metadata(context, Base.metadata) == []
