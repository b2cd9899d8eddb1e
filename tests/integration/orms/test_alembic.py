"""`alembic check`, the command: with an env.py as applications have one, over tables that are protected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_stack import Database
from tests.integration.orms import fix_sealed, fix_shop
from tests.integration.orms.test_page import ROOT
from tests.integration.sealing.conftest import door, door_place, folder, run
from tests.integration.sealing.fix_door import DoorOfTests

__all__ = ["door", "door_place", "folder", "run"]
ENVIRONMENT = """
import os

from alembic import context
from sqlalchemy import create_engine

from pg_envelope_client.sqlalchemy import install
from {models} import Base

engine = create_engine(os.environ["DATABASE_URL"])
install(engine)
with engine.connect() as connection:
    context.configure(connection, target_metadata=Base.metadata, compare_type=True, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""


class Project:
    """A folder with alembic.ini, env.py and no migration yet, whose models are those of a module."""

    def __init__(self, folder: Path, db: Database, models: str) -> None:
        self._folder, self._db = folder, db
        # Alembic makes its table alembic_version.
        db.sql("GRANT CREATE ON SCHEMA public TO alice")
        (folder / "migrations/versions").mkdir(parents=True)
        (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")
        (folder / "migrations/env.py").write_text(ENVIRONMENT.format(models=models))

    def check(self) -> tuple[int, str]:
        """Runs the command. Returns its exit status, and what it said."""
        address = fix_shop.url(self._db, "psycopg").render_as_string()
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "check"],
            cwd=self._folder,
            env={**os.environ, "DATABASE_URL": address, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def shop(db: Database) -> Database:
    fix_shop.make(db)
    fix_shop.protect(db)
    return db


def test_over_a_protected_table(shop: Database, tmp_path: Path) -> None:
    project = Project(tmp_path, shop, "tests.integration.orms.fix_shop")
    assert project.check()[0] == 0, project.check()[1]
    shop.sql("ALTER TABLE customer ADD extra int")
    status, said = project.check()
    assert (status, "remove_column" in said, "extra" in said) == (255, True, True), said


def test_over_a_table_that_the_application_seals(door: DoorOfTests, tmp_path: Path) -> None:
    fix_sealed.fill(door.db)
    fix_sealed.shop(door)
    project = Project(tmp_path, door.db, "tests.integration.orms.fix_sealed")
    assert project.check()[0] == 0, project.check()[1]
    door.db.sql("ALTER TABLE item ADD extra int")
    status, said = project.check()
    assert (status, "remove_column" in said, "extra" in said) == (255, True, True), said
