"""Columns of type Encrypted(...) of all types and row keys, and those that the server seals."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, Text, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

from pg_envelope import errors
from pg_envelope_client.sqlalchemy import Encrypted, install
from tests.fix_stack import Database
from tests.integration.orms import fix_shop
from tests.integration.orms.fix_sealed import allow, engine_of
from tests.integration.sealing.conftest import door, door_place, folder, run
from tests.integration.sealing.fix_door import DoorOfTests

__all__ = ["door", "door_place", "folder", "run"]


class Mood(enum.Enum):
    happy = 1
    sad = 2


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
# name: the type of the model, that of the table, values
KINDS: dict[str, tuple[Any, str, st.SearchStrategy[Any]]] = {
    "words": (Text(), "text", TEXTS),
    "short": (sa.String(20), "varchar(20)", TEXTS),
    "whole": (sa.Integer(), "integer", st.integers(-(2**31), 2**31 - 1)),
    "big": (sa.BigInteger(), "bigint", st.integers(-(2**63), 2**63 - 1)),
    "amount": (sa.Numeric(12, 2), "numeric(12,2)", st.decimals(-(10**9), 10**9, places=2)),
    "truth": (sa.Boolean(), "boolean", st.booleans()),
    "day": (sa.Date(), "date", st.dates()),
    "moment": (sa.DateTime(), "timestamp", st.datetimes()),
    "one": (sa.Uuid(), "uuid", st.uuids()),
    "text_uuid": (sa.Uuid(as_uuid=False), "uuid", st.uuids().map(str)),
    "raw": (sa.LargeBinary(), "bytea", st.binary(max_size=20)),
    "mood": (sa.Enum(Mood, native_enum=False), "text", st.sampled_from(Mood)),
    "notes": (
        JSONB(),
        "jsonb",
        st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers(-9, 9) | TEXTS, max_size=3),
    ),
}


def typed(metadata: MetaData) -> Table:
    columns = [Column(name, Encrypted(kind, ("typed", name))) for name, (kind, _, _) in KINDS.items()]
    return Table("typed", metadata, Column("id", sa.BigInteger, primary_key=True), *columns)


def test_values_of_each_type_come_back(door: DoorOfTests) -> None:
    """The twin is a plain table, which the view over the envelopes must equal."""
    db = door.db
    kinds = ", ".join(f"{name} {kind}" for name, (_, kind, _) in KINDS.items())
    db.sql(
        f"CREATE TABLE typed (id bigserial PRIMARY KEY, {kinds}); CREATE TABLE twin (id bigint PRIMARY KEY, {kinds})"
    )
    db.sql("CALL envelope.protect('typed', to_jsonb(%s::text[]))", list(KINDS))
    keys = allow(door, [("typed", name) for name in KINDS], [])
    table, metadata = typed(MetaData()), MetaData()
    plain = [Column(name, kind) for name, (kind, _, _) in KINDS.items()]
    twin = Table("twin", metadata, Column("id", sa.BigInteger, primary_key=True), *plain)
    rows = st.lists(
        st.fixed_dictionaries({name: st.none() | kind for name, (_, _, kind) in KINDS.items()}), min_size=1, max_size=4
    )
    with engine_of(door, keys) as engine:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(rows)
        def same(wanted: list[dict[str, Any]]) -> None:
            with engine.connect() as connection:
                numbers = [
                    row.id
                    for row in connection.execute(
                        insert(table).returning(table.c.id, sort_by_parameter_order=True), wanted
                    )
                ]
                connection.execute(
                    insert(twin), [{"id": number, **row} for number, row in zip(numbers, wanted, strict=True)]
                )
                found = connection.execute(select(table).order_by(table.c.id)).mappings().all()
                assert [dict(row) for row in found] == [
                    {"id": number, **row} for number, row in zip(numbers, wanted, strict=True)
                ]
                texts = ", ".join(f"{name}::text" for name in KINDS if name != "notes")
                both = [
                    connection.exec_driver_sql(f"SELECT {texts} FROM {name} ORDER BY id").all()
                    for name in ("typed", "twin")
                ]
                assert both[0] == both[1]
                connection.rollback()

        same()


def test_a_composite_row_key_with_a_tenant_in_another_schema(door: DoorOfTests) -> None:
    db = door.db
    db.sql('CREATE SCHEMA "Odd.One"; GRANT USAGE ON SCHEMA "Odd.One" TO alice')
    db.sql(
        'CREATE TABLE "Odd.One"."My Notes" (at timestamptz, tag char(3), tenant text NOT NULL, v text,'
        " PRIMARY KEY (at, tag))"
    )
    name = '"Odd.One"."My Notes"'
    options = '{"v": {"search": "exact"}}'
    db.sql(f"CALL envelope.protect('{name}', '{options}', scope => 'tenant', scope_column => 'tenant')")
    db.sql(f'GRANT ALL ON {name}, "Odd.One"."My Notes_encrypted" TO alice')
    keys = allow(door, [(name, "v")], [(name, "v_search")])

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "My Notes"
        at: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True), primary_key=True)
        tag: Mapped[str] = mapped_column(sa.CHAR(3), primary_key=True)
        tenant: Mapped[str] = mapped_column()
        v: Mapped[str | None] = mapped_column(Encrypted(Text(), (name, "v"), search="v_search"))
        __table_args__ = ({"schema": "Odd.One"},)
        __mapper_args__ = {"primary_key": [tenant, at, tag]}  # noqa: RUF012

    at = dt.datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
    with engine_of(door, keys) as engine:
        with Session(engine) as session, session.begin():
            session.add_all(
                [Note(at=at, tag="a", tenant="acme", v="one"), Note(at=at, tag="b", tenant="globex", v="two")]
            )
            session.flush()
            note = session.scalars(select(Note).where(Note.v == "one")).one()
            note.v = "changed"
        with Session(engine) as session, session.begin():
            session.connection().exec_driver_sql("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'")
            other = aliased(Note)
            assert sorted(session.execute(select(Note.v, Note.tenant))) == [("changed", "acme"), ("two", "globex")]
            assert session.scalars(select(other.v).where(other.v.in_(["changed"]), other.tenant == "acme")).all() == [
                "changed"
            ]
            with pytest.raises(InvalidRequestError, match="does not give tenant"):
                session.execute(update(Note).where(Note.at == at, Note.tag == "a").values(v="three"))
    assert sorted(db.sql(f"SELECT v FROM {name}")) == [("changed",), ("two",)]
    db.sql(f"CALL envelope.verify('{name}')")
    assert db.sql("SELECT * FROM envelope.faults") == []


def test_an_erased_subject_reads_as_null_at_once(door: DoorOfTests) -> None:
    door.db.sql("CREATE TABLE diary (id serial PRIMARY KEY, person text NOT NULL, entry text)")
    subjects = "scope => 'subject', scope_column => 'person', erased => 'null'"
    door.db.sql(f"CALL envelope.protect('diary', '[\"entry\"]', {subjects})")
    keys = allow(door, [("diary", "entry")], [])

    class Local(DeclarativeBase):
        pass

    class Diary(Local):
        __tablename__ = "diary"
        id: Mapped[int] = mapped_column(primary_key=True)
        person: Mapped[str] = mapped_column()
        entry: Mapped[str | None] = mapped_column(Encrypted(Text(), ("diary", "entry")))
        __mapper_args__ = {"primary_key": [person, id]}  # noqa: RUF012

    with engine_of(door, keys) as engine:
        with Session(engine) as session, session.begin():
            session.add_all([Diary(id=1, person="ann", entry="of ann"), Diary(id=2, person="ben", entry="of ben")])
        query = select(Diary.entry).order_by(Diary.id)
        with Session(engine) as session:
            assert session.scalars(query).all() == ["of ann", "of ben"]
        door.db.sql("CALL envelope.shred('diary', 'ann', 'asked for it')")
        with Session(engine) as session:
            assert session.scalars(query).all() == [None, "of ben"]
            session.add(Diary(id=3, person="ann", entry="again"))
            with pytest.raises(errors.EnvelopeError):
                session.commit()


class Served(DeclarativeBase):
    pass


class Member(Served):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(
        Encrypted(Text(), ("member", "email"), search="email_search", client_side=False)
    )
    fee: Mapped[Decimal | None] = mapped_column(
        Encrypted(sa.Numeric(6, 2), ("member", "fee"), "fee_search", client_side=False)
    )
    born: Mapped[dt.date | None] = mapped_column(Encrypted(sa.Date(), ("member", "born"), client_side=False))


MEMBERS = """
CREATE TABLE member (id serial PRIMARY KEY, email text, fee numeric(6,2), born date);
CALL envelope.protect('member', '{"email": {"search": {"exact": {"normalize": "email"}}},
    "fee": {"search": {"exact": {"force": true}}}, "born": {}}');
GRANT ALL ON member, member_id_seq TO alice"""


def served(session: Session) -> list[Any]:
    """What applications do with values that the server seals."""
    session.add(Member(email="Ada@example.org", fee=Decimal("1.50"), born=dt.date(1815, 12, 10)))
    session.flush()
    session.execute(insert(Member), [{"email": f"m{number}@x", "fee": number} for number in range(3)])
    session.execute(update(Member).where(Member.email == "m2@x").values(email="M9@x", born=dt.date(2000, 1, 1)))
    session.expire_all()
    other = aliased(Member)
    return [
        session.scalars(select(Member.email).where(Member.email == "ADA@example.org")).all(),
        sorted(session.scalars(select(other.email).where(other.email.in_(["m0@x", "m9@X", "no"])))),
        session.scalars(select(Member.email).where(Member.fee == Decimal("1.500"))).all(),
        session.scalars(select(Member.email).where(Member.fee == Decimal("1.504"))).all(),
        session.scalar(select(sa.func.count()).where(Member.born.is_(None))),
        session.scalar(select(sa.func.count()).where(Member.email != "m0@x")),
        [one.born for one in session.scalars(select(Member).filter_by(email="m9@x"))],
    ]


SERVED = [["Ada@example.org"], ["M9@x", "m0@x"], ["Ada@example.org"], [], 2, 3, [dt.date(2000, 1, 1)]]


@pytest.fixture
def members(db: Database) -> Database:
    db.sql(MEMBERS)
    return db


def test_the_server_seals(members: Database) -> None:
    engine = sa.create_engine(fix_shop.url(members, "psycopg"))
    install(engine)
    with Session(engine) as session:
        assert served(session) == SERVED
        for make in (
            lambda: Member.email.like("a"),
            lambda: Member.fee > 1,
            lambda: Member.email.desc(),
            lambda: Member.born == dt.date(2000, 1, 1),
        ):
            with pytest.raises(InvalidRequestError, match="encrypted"):
                make()
    engine.dispose()


def test_the_server_seals_for_an_asynchronous_engine(members: Database) -> None:
    async def suite() -> list[Any]:
        engine = create_async_engine(fix_shop.url(members, "asyncpg"))
        install(engine)
        async with sa.ext.asyncio.AsyncSession(engine) as session:
            found = await session.run_sync(served)
        await engine.dispose()
        return found

    assert asyncio.run(suite()) == SERVED


@pytest.mark.parametrize(
    "field", ["customer.email", ("customer",), ("customer", ""), ("a", "b", "c"), (1, 2), None, {}]
)
def test_a_field_is_a_table_and_a_column(field: Any) -> None:
    with pytest.raises(InvalidRequestError, match="the table and the column"):
        Encrypted(Text(), field)
    assert Encrypted(Text(), ["customer", "email"]).field == ("customer", "email")  # type: ignore[arg-type]


def test_a_table_is_of_one_side() -> None:
    ours, theirs = Encrypted(Text(), ("t", "a")), Encrypted(Text(), ("t", "b"), client_side=False)
    with pytest.raises(InvalidRequestError, match="client_side"):
        Table("t", MetaData(), Column("id", sa.Uuid, primary_key=True), Column("a", ours), Column("b", theirs))
