"""A shop with SQLAlchemy over a protected table. Run it as `python shop.py postgresql+psycopg://app@db.example/shop`.

A superuser has protected the table before:

    CALL envelope.protect('customer', '{"email": {"search": "exact", "unique": true}, "born": {}}');
    CALL envelope.allow_upsert('customer');
"""

from __future__ import annotations

import datetime as dt
import sys

from sqlalchemy import create_engine, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_envelope_client.sqlalchemy import install


class Base(DeclarativeBase):
    pass


class Customer(Base):
    """The model of the plain table. Protecting the table changes nothing here."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    born: Mapped[dt.date | None]


# The search column finds a value by an index, without decrypting the rows.
email_search = literal_column("customer.email_search")


def put(session: Session, login: str, email: str) -> None:
    """Inserts a customer, or changes the email of the one with this login."""
    given = insert(Customer).values(login=login, email=email)
    changed = {"email": given.excluded.email}
    session.execute(given.on_conflict_do_update(index_elements=[Customer.login], set_=changed))


def login_of(session: Session, email: str) -> str | None:
    return session.scalar(select(Customer.login).where(email_search == email))


def main(url: str) -> None:
    engine = create_engine(url)
    install(engine)
    with Session(engine) as session, session.begin():
        session.add(Customer(login="ada", email="ada@example.org", born=dt.date(1815, 12, 10)))
        session.flush()
        put(session, "ada", "countess@example.org")
        put(session, "alan", "alan@example.org")
        print(login_of(session, "countess@example.org"), session.scalar(select(func.count(Customer.id))))
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
