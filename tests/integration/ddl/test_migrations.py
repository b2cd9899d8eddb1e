"""Unmodified migrations of Alembic and Django, as the table's owner: alike on a protected table and on a plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from tests.fix_django import configure
from tests.fix_stack import Database

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = '{0}'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
BEHIND = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{0}'::regclass AND contype <> 'n'
UNION ALL
SELECT c.relname, regexp_replace(pg_get_indexdef(i.indexrelid), ' ON \\S+ ', ' ON ')
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = '{0}'::regclass ORDER BY 1, 2"""
Migrate = Callable[[Database, str], None]


def looks(db: Database, schema: str, base: str) -> list[list[str]]:
    """What people see of the table `people`."""
    db.sql(f"SET search_path = {schema}")
    found = COLUMNS.format("people"), BEHIND.format(base), "SELECT * FROM people ORDER BY id"
    return [[str(row).replace(base, "people") for row in db.sql(query)] for query in found]


def alembic(db: Database, schema: str) -> None:
    """Each operation in a migration of its own, as `alembic upgrade` runs it."""
    for migration in ALEMBIC:
        with engine(db, schema).begin() as connection:
            migration(Operations(MigrationContext.configure(connection)))


def engine(db: Database, schema: str) -> sa.Engine:
    def connect() -> Any:
        return db.connect("owner", autocommit=False, options=f"-c search_path={schema}")

    return sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.NullPool)


ALEMBIC: list[Callable[[Operations], object]] = [
    lambda op: op.add_column("person", sa.Column("born", sa.Date(), server_default="2000-01-01", nullable=False)),
    lambda op: op.add_column("person", sa.Column("size", sa.Integer())),
    lambda op: op.create_index("ix_person_size", "person", ["size"]),
    lambda op: op.create_unique_constraint("uq_person_name", "person", ["name"]),
    lambda op: op.create_check_constraint("ck_person_size", "person", "size > 0"),
    lambda op: op.alter_column("person", "size", type_=sa.BigInteger(), existing_type=sa.Integer()),
    lambda op: op.alter_column("person", "size", server_default="3", nullable=True),
    lambda op: op.alter_column("person", "mail", nullable=False),
    lambda op: op.alter_column("person", "mail", new_column_name="address"),
    lambda op: op.alter_column("person", "name", new_column_name="full_name"),
    lambda op: op.create_table(
        "note",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("person_id", sa.Integer(), sa.ForeignKey("person.id", ondelete="CASCADE")),
    ),
    lambda op: op.add_column("person", sa.Column("boss", sa.Integer())),
    lambda op: op.create_foreign_key("fk_boss", "person", "person", ["boss"], ["id"]),
    lambda op: op.drop_constraint("ck_person_size", "person"),
    lambda op: op.drop_index("ix_person_size", "person"),
    lambda op: op.create_table_comment("person", "about people"),
    lambda op: op.drop_column("person", "born"),
    lambda op: op.rename_table("person", "people"),
]


def of_django(db: Database, schema: str) -> None:
    """Each operation in a migration of its own, as `manage.py migrate` runs it."""
    from django.db import connection, migrations
    from django.db.migrations.state import ProjectState

    place = {"NAME": db.name, "USER": "owner", **address(db)}
    connection.settings_dict.update(place, OPTIONS={"options": f"-c search_path={schema}"})
    connection.close()
    state = ProjectState()
    for number, operation in enumerate(django_operations()):
        migration = type("Migration", (migrations.Migration,), {"operations": [operation]})(f"m{number}", "shop")
        with connection.schema_editor(atomic=True) as editor:
            state = migration.apply(state, editor)
    connection.close()


def django_operations() -> list[Any]:
    from django.db import migrations as m
    from django.db import models as f

    texts = [(name, f.TextField(null=True)) for name in ("mail", "name")]
    fields = [("id", f.IntegerField(primary_key=True)), *texts]
    made = m.CreateModel("Person", fields, options={"db_table": "person"})
    # The table is there already.
    return [
        m.SeparateDatabaseAndState(state_operations=[made]),
        m.AddField("person", "born", f.IntegerField(default=3)),
        m.AddField("person", "size", f.IntegerField(null=True, db_index=True)),
        m.AlterField("person", "size", f.BigIntegerField(null=True, db_index=True)),
        m.AlterField("person", "born", f.IntegerField(null=True)),
        m.AddIndex("person", f.Index(fields=["born", "name"], name="born_name")),
        m.AddConstraint("person", f.CheckConstraint(condition=f.Q(born__lt=100), name="born_small")),
        m.AddConstraint("person", f.UniqueConstraint(fields=["name"], name="name_once")),
        m.RenameField("person", "mail", "address"),
        m.AlterField("person", "address", f.TextField(default="none@example.org")),
        m.CreateModel(
            "Note",
            [
                ("id", f.BigAutoField(primary_key=True)),
                ("person", f.ForeignKey("shop.Person", on_delete=f.CASCADE)),
                ("readers", f.ManyToManyField("shop.Person", related_name="read")),
            ],
        ),
        m.AddField("person", "boss", f.ForeignKey("shop.Person", null=True, on_delete=f.SET_NULL)),
        m.RemoveConstraint("person", "born_small"),
        m.RemoveIndex("person", "born_name"),
        m.RemoveField("person", "born"),
        m.AlterModelTable("person", "people"),
    ]


@pytest.fixture(params=[alembic, of_django])
def migrate(request: pytest.FixtureRequest, db: Database) -> Migrate:
    configure()
    chosen: Migrate = request.param
    return chosen


def address(db: Database) -> dict[str, str]:
    info = db.admin.info
    return {"HOST": info.host, "PORT": str(info.port)}


def test_migrations_leave_what_they_leave_of_a_plain_table(db: Database, migrate: Migrate) -> None:
    for schema in ("plain", "sealed"):
        db.sql(f"CREATE SCHEMA {schema} AUTHORIZATION owner; SET ROLE owner; SET search_path = {schema}")
        db.sql("CREATE TABLE person (id int PRIMARY KEY, mail text, name text)")
        db.sql("INSERT INTO person VALUES (1, 'a@example.org', 'Ada'), (2, 'g@example.org', 'Grace'); RESET ROLE")
    db.sql("""RESET search_path; CALL envelope.protect('sealed.person', '["mail"]')""")
    for schema in ("plain", "sealed"):
        migrate(db, schema)
    assert looks(db, "sealed", "people_encrypted") == looks(db, "plain", "people")
