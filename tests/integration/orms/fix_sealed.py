"""A shop whose values the application seals: models, and engines with keys."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Date, Engine, ForeignKey, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from pg_envelope_client import KeyClient
from pg_envelope_client.sqlalchemy import Encrypted, install
from tests.fix_stack import Database
from tests.integration.orms import fix_shop
from tests.integration.sealing.fix_door import DoorOfTests

TABLES = """
CREATE TABLE customer (id uuid PRIMARY KEY, login text UNIQUE, email text, born date);
CREATE TABLE item (id serial PRIMARY KEY, customer_id uuid REFERENCES customer ON DELETE CASCADE,
    label text, price int);
CALL envelope.protect('customer', '{"email": {"search": {"exact": {"normalize": "email"}}}, "born": {}}');
CALL envelope.protect('item', '["label"]')"""


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    login: Mapped[str | None] = mapped_column(Text, unique=True)
    email: Mapped[str | None] = mapped_column(Encrypted(Text(), ("customer", "email"), search="email_search"))
    born: Mapped[dt.date | None] = mapped_column(Encrypted(Date(), ("customer", "born")))
    items: Mapped[list[Item]] = relationship(back_populates="customer", cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("customer.id", ondelete="CASCADE"))
    label: Mapped[str | None] = mapped_column(Encrypted(Text(), ("item", "label")))
    price: Mapped[int | None]
    customer: Mapped[Customer | None] = relationship(back_populates="items")


def allow(door: DoorOfTests, fields: list[tuple[str, str]], searches: list[tuple[str, str]], *others: str) -> KeyClient:
    """Gives alice the tables and the keys, and the application their uuids, and others."""
    db = door.db
    db.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO alice; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO alice")
    found = [db.one("SELECT envelope.grant_client(%s, %s, 'alice')", *field) for field in fields]
    found += [db.one("SELECT envelope.grant_client_search(%s, %s, 'alice')", *place) for place in searches]
    door.allow(*found, *others)
    return door.client()


def fill(db: Database) -> None:
    db.sql(TABLES)


def shop(door: DoorOfTests) -> KeyClient:
    """Lets the application use the tables of `fill`."""
    fields = [("customer", "email"), ("customer", "born"), ("item", "label")]
    return allow(door, fields, [("customer", "email_search")])


@contextmanager
def engine_of(door: DoorOfTests, keys: KeyClient | None, **options: object) -> Iterator[Engine]:
    engine = create_engine(fix_shop.url(door.db, "psycopg"), **options)
    install(engine, keys)
    try:
        yield engine
    finally:
        engine.dispose()
