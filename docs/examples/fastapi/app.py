"""A shop with FastAPI and SQLAlchemy over a protected table. Run `uvicorn app:app` after protect.sql.

DATABASE_URL names the database: postgresql+psycopg://app@db.example/shop
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import create_engine, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_envelope_client.sqlalchemy import install

engine = create_engine(os.environ["DATABASE_URL"])
install(engine)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Customer(Base):
    """The model of the plain table. Protecting the table changes nothing here."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    born: Mapped[dt.date | None]


class Given(BaseModel):
    email: str
    born: dt.date | None = None


def session() -> Iterator[Session]:
    with Session(engine) as opened, opened.begin():
        yield opened


# The transaction ends before the answer is sent, so that "200" means that it is committed.
Database = Annotated[Session, Depends(session, scope="function")]
# The search column finds a value by an index, without decrypting the rows.
email_search = literal_column("customer.email_search")


@app.put("/customers/{login}")
def put(login: str, given: Given, database: Database) -> None:
    """Inserts a customer, or changes the one with this login."""
    row = insert(Customer).values(login=login, **given.model_dump())
    changed = {name: row.excluded[name] for name in Given.model_fields}
    database.execute(row.on_conflict_do_update(index_elements=[Customer.login], set_=changed))


@app.get("/customers")
def find(email: str, database: Database) -> dict[str, object]:
    found = database.scalar(select(Customer).where(email_search == email))
    if found is None:
        raise HTTPException(404)
    return {"login": found.login, "email": found.email, "born": found.born}
