"""A small shop as SQLAlchemy models, and a suite of what applications do with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import URL, ForeignKey, Numeric, Text, UniqueConstraint, create_engine, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from tests.fix_stack import Database

PROTECTED = {"customer": '["name", "email", "born", "balance", "notes"]', "item": '{"label": {"bind": "row"}}'}


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    __table_args__ = (UniqueConstraint("email", name="one_email"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text, server_default="nobody")
    email: Mapped[str | None] = mapped_column(Text)
    born: Mapped[dt.date | None]
    balance: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    notes: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    visits: Mapped[int] = mapped_column(server_default="0")
    items: Mapped[list[Item]] = relationship(back_populates="customer", cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), index=True)
    label: Mapped[str] = mapped_column(Text)
    customer: Mapped[Customer] = relationship(back_populates="items")


def url(db: Database, driver: str, user: str = "alice") -> URL:
    environment = db.stack.environ()
    place = {"host": environment["PGHOST"], "port": environment["PGPORT"]}
    return URL.create(f"postgresql+{driver}", username=user, database=db.name, query=place)


def make(db: Database) -> None:
    """Makes the tables, and lets alice use them."""
    engine = create_engine(url(db, "psycopg", "postgres"))
    Base.metadata.create_all(engine)
    engine.dispose()
    grant(db)


def grant(db: Database) -> None:
    db.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO alice; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO alice")


def protect(db: Database) -> None:
    for table, columns in PROTECTED.items():
        db.sql(f"CALL envelope.protect('{table}', '{columns}')")
        db.sql(f"CALL envelope.allow_upsert('{table}')")


def _customers(count: int) -> list[Customer]:
    return [
        Customer(
            login=f"u{i}",
            name=f"Name {i}",
            email=f"u{i}@example.org",
            born=dt.date(1990, 1, 1 + i),
            balance=Decimal(i) / 4,
            notes={"n": [i, None]},
            items=[Item(label=f"item {j}") for j in range(i)],
        )
        for i in range(count)
    ]


def _row(customer: Customer) -> tuple[object, ...]:
    return customer.login, customer.name, customer.email, customer.born, customer.balance, customer.notes


def _saved(session: Session) -> object:
    session.add_all(_customers(4))
    session.add(Customer(login="bare"))
    session.flush()
    return [_row(one) for one in session.scalars(select(Customer).order_by(Customer.login))]


def _changed(session: Session) -> object:
    one = session.scalars(select(Customer).where(Customer.login == "u1")).one()
    one.email, one.notes = None, {"changed": True}
    session.execute(update(Customer).where(Customer.login == "u2").values(name=Customer.name + "!"))
    session.flush()
    session.expire_all()
    return [_row(one) for one in session.scalars(select(Customer).order_by(Customer.id))]


def _grouped(session: Session) -> object:
    counted = select(Customer, func.count(Item.id)).outerjoin(Item).group_by(Customer.id).order_by(Customer.login)
    named = select(Customer.email, func.count().label("n")).join(Item).group_by(Customer.id).having(Customer.visits < 5)
    everyone = [(one.login, number) for one, number in session.execute(counted)]
    return everyone, sorted(map(str, session.execute(named).all()))


def _upserted(session: Session) -> object:
    given = [{"login": "u1", "email": "up@example.org", "born": dt.date(2000, 2, 29)}, {"login": "v", "email": "v"}]
    put = insert(Customer).values([{"born": None, **one} for one in given])
    put = put.on_conflict_do_update(
        index_elements=[Customer.login],
        set_={"email": put.excluded.email, "born": put.excluded.born, "visits": Customer.visits + 1},
    )
    back = session.execute(put.returning(Customer.login, Customer.visits)).all()
    many = insert(Customer).on_conflict_do_update(index_elements=["login"], set_={"name": "again"})
    session.execute(many.returning(Customer.id), [{"login": "u0", "name": "x"}, {"login": "w", "name": "W"}])
    for quiet in (
        insert(Customer).values(login="u0", name="no").on_conflict_do_nothing(),
        insert(Customer).values(login="u0", name="no").on_conflict_do_nothing(index_elements=["login"]),
        insert(Customer).values(login="n", email="v").on_conflict_do_nothing(),
    ):
        session.execute(quiet)
    session.expire_all()
    rows = [_row(one) for one in session.scalars(select(Customer).order_by(Customer.login))]
    return back, rows


def _deleted(session: Session) -> object:
    session.delete(session.scalars(select(Customer).where(Customer.login == "u3")).one())
    session.flush()
    return session.scalar(select(func.count()).select_from(Item))


OPERATIONS: list[Callable[[Session], object]] = [_saved, _changed, _grouped, _upserted, _deleted]


def suite(session: Session) -> list[object]:
    """Does all of it, and takes it back. Returns what it saw."""
    seen = [operation(session) for operation in OPERATIONS]
    session.rollback()
    return seen
