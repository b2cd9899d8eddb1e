"""SQLAlchemy and Alembic over protected tables: the suite sees what it sees over plain ones."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table, create_engine, inspect
from sqlalchemy.engine.reflection import Inspector
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pg_envelope_client.sqlalchemy import install
from tests.fix_stack import Database
from tests.integration.orms import fix_shop

COMPARED = {"compare_type": True, "compare_server_default": True}


@pytest.fixture
def shop(db: Database) -> Database:
    fix_shop.make(db)
    return db


def seen(db: Database, *, installed: bool) -> list[object]:
    engine = create_engine(fix_shop.url(db, "psycopg"))
    if installed:
        install(engine)
    try:
        with Session(engine) as session:
            return fix_shop.suite(session)
    finally:
        engine.dispose()


def test_the_suite_sees_no_difference(shop: Database) -> None:
    plain = seen(shop, installed=False)
    assert seen(shop, installed=True) == plain
    fix_shop.protect(shop)
    assert seen(shop, installed=True) == plain


def test_nor_does_it_with_asyncpg(shop: Database) -> None:
    plain = seen(shop, installed=False)
    fix_shop.protect(shop)

    async def run() -> list[object]:
        engine = create_async_engine(fix_shop.url(shop, "asyncpg"))
        install(engine)
        async with AsyncSession(engine) as session:
            found = await session.run_sync(fix_shop.suite)
        await engine.dispose()
        return found

    assert asyncio.run(run()) == plain


def described(connection: Connection) -> dict[str, object]:
    found: Inspector = inspect(connection)
    tables = sorted(found.get_table_names())
    names = ("columns", "foreign_keys", "pk_constraint", "unique_constraints", "check_constraints")
    facts = {(table, what): getattr(found, f"get_{what}")(table) for table in tables for what in names}
    return {"tables": tables, "views": found.get_view_names(), **{str(key): _plain(facts[key]) for key in facts}}


def _plain(value: object) -> object:
    """Returns reflected facts in a form that can be compared: types by their names."""
    if isinstance(value, dict):
        return {key: str(item) if key == "type" else _plain(item) for key, item in sorted(value.items())}
    return sorted(map(str, map(_plain, value))) if isinstance(value, list) else value


def test_reflection_and_alembic_see_the_plain_tables(shop: Database) -> None:
    engine = create_engine(fix_shop.url(shop, "psycopg"))
    install(engine)
    with engine.connect() as connection:
        before = described(connection)
    fix_shop.protect(shop)
    engine.dispose()
    with engine.connect() as connection:
        assert described(connection) == before
        context = MigrationContext.configure(connection, opts=COMPARED)
        assert compare_metadata(context, fix_shop.Base.metadata) == []
        reflected = MetaData()
        reflected.reflect(connection)
        assert set(reflected.tables) == {"customer", "item"}
        one = Table("customer", MetaData(), autoload_with=connection)
        assert [column.name for column in one.primary_key] == ["id"]
    engine.dispose()


def test_without_the_upsert_relation_postgresql_says_so(shop: Database) -> None:
    shop.sql("CALL envelope.protect('customer', '[\"email\"]')")
    engine = create_engine(fix_shop.url(shop, "psycopg"))
    install(engine)
    with Session(engine) as session, pytest.raises(Exception, match="no unique or exclusion constraint"):
        fix_shop.suite(session)
    engine.dispose()


def test_another_schema_and_odd_names(db: Database) -> None:
    db.sql('CREATE SCHEMA "odd.Schema"; CREATE TABLE "odd.Schema"."Odd Name" (id int PRIMARY KEY, "Va""lue" text)')
    db.sql('CALL envelope.protect(\'"odd.Schema"."Odd Name"\', \'["Va\\"lue"]\')')
    db.sql('CALL envelope.allow_upsert(\'"odd.Schema"."Odd Name"\')')
    engine = create_engine(fix_shop.url(db, "psycopg", "postgres"))
    install(engine)
    with engine.begin() as connection:
        table = Table("Odd Name", MetaData(), schema="odd.Schema", autoload_with=connection)
        for value in ("a", "odd.Schema.Odd Name"):
            put = fix_shop.insert(table).values({"id": 1, 'Va"lue': value})
            put = put.on_conflict_do_update(index_elements=["id"], set_={'Va"lue': put.excluded['Va"lue']})
            back = connection.execute(put.returning(table.c.id)).all()
            assert [tuple(row) for row in back] == [(1,)]
            assert connection.execute(table.select()).all() == [(1, value)]
    engine.dispose()


def test_a_database_without_the_extension(db: Database) -> None:
    engine = create_engine(fix_shop.url(db, "psycopg", "postgres").set(database="postgres"))
    install(engine)
    install(engine)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == []
    engine.dispose()
    with pytest.raises(TypeError):
        install(create_engine("sqlite://"))
