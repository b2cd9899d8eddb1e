"""A shop with FastAPI and SQLAlchemy that seals its values itself: the server sees envelopes and tokens only.

Run `uvicorn app:app` after protect.sql. DATABASE_URL names the database, as postgresql+psycopg://app@db.example/shop.
The other variables name the broker's door, and the certificate by which it knows this application.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import Date, Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_envelope_client import Broker, KeyClient
from pg_envelope_client.sqlalchemy import Encrypted, install

engine = create_engine(os.environ["DATABASE_URL"])
broker = Broker(
    os.environ["PG_ENVELOPE_BROKER"],
    certificate_file=os.environ["PG_ENVELOPE_CERTIFICATE"],
    key_file=os.environ["PG_ENVELOPE_CERTIFICATE_KEY"],
    ca_file=os.environ["PG_ENVELOPE_CA_FILE"],
)
# It has a connection of its own: the count of messages must not be rolled back with a transaction.
keys = KeyClient(broker, engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
install(engine, keys)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Customer(Base):
    """A value is bound to its row, so the application gives the key: uuid4."""

    __tablename__ = "customer"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    login: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None] = mapped_column(Encrypted(Text(), ("customer", "email"), search="email_search"))
    born: Mapped[dt.date | None] = mapped_column(Encrypted(Date(), ("customer", "born")))


class Given(BaseModel):
    email: str
    born: dt.date | None = None


def session() -> Iterator[Session]:
    with Session(engine) as opened, opened.begin():
        yield opened


# The transaction ends before the answer is sent, so that "200" means that it is committed.
Database = Annotated[Session, Depends(session, scope="function")]


@app.put("/customers/{login}")
def put(login: str, given: Given, database: Database) -> None:
    """Inserts a customer, or changes the one with this login."""
    found = database.scalar(select(Customer).where(Customer.login == login).with_for_update())
    if found is None:
        found = Customer(login=login)
        database.add(found)
    found.email, found.born = given.email, given.born


@app.get("/customers")
def find(email: str, database: Database) -> dict[str, object]:
    """Finds by the token of the address, which the application makes."""
    found = database.scalar(select(Customer).where(Customer.email == email))
    if found is None:
        raise HTTPException(404)
    return {"login": found.login, "email": found.email, "born": found.born}
