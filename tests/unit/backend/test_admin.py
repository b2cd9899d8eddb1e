"""The themes of the routines for DBAs: each is imported alone, SQL calls what they offer, and who changes a table."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.backend.admin.admin import Admin
from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.ddl.begin import Exchanges
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host
from pg_envelope.backend.link import Link
from tests.unit.backend.fake_plpy import FakePlpy

ROOT = Path(__file__).parents[3]
SQL = "".join(path.read_text() for path in sorted((ROOT / "sql").glob("[0-9]*.sql")))
CALLS = set(re.findall(r"\.admin\.(\w+)\.(\w+)\(", SQL))
PACKAGE = ROOT / "plpython/pg_envelope/backend/admin"
THEMES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "admin", "tools"))


def tools() -> AdminTools:
    """No test here makes a statement, or asks the broker."""
    host = Host(FakePlpy())
    link, nothing = cast("Link", None), cast("Any", None)
    return AdminTools(host, lambda: Exchanges(host, host), Guard(host), link, nothing, nothing)


def offered(theme: object) -> Iterator[str]:
    return (name for name in vars(theme) if not name.startswith("_"))


def test_sql_calls_what_the_themes_offer_and_nothing_else() -> None:
    admin = Admin(tools())
    assert {(theme, name) for theme in THEMES for name in offered(getattr(admin, theme))} == CALLS
    assert {theme for theme, _ in CALLS} == set(THEMES)


def imported(code: str) -> set[str]:
    # Isolated, as the server's Python is. What the file .pth of an editable installation imports is not ours.
    code = (
        f"import sys; sys.path[:0] = {sys.path}; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    )
    return set(
        subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )


def modules(code: str) -> set[str]:
    found = {name for name in imported(code) if name.startswith("pg_envelope.backend.admin")}
    return {name.removeprefix("pg_envelope.backend.").removeprefix("admin.") for name in found}


def test_a_session_imports_no_theme() -> None:
    assert modules("import pg_envelope.backend.session") == set()


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_needs_no_library_that_takes_long_to_import(theme: str) -> None:
    """What stands in for them is in `typed` and `records`."""
    found = imported(f"import pg_envelope.backend.admin.{theme}, pg_envelope.backend.session")
    assert found & {"dataclasses", "typing", "inspect", "ast", "importlib.metadata"} == set()


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_imports_no_other_theme(theme: str) -> None:
    code = f"import pg_envelope.backend.admin.admin, pg_envelope.backend.admin.{theme}"
    assert modules(code) == {"admin", "tools", theme}


def test_what_follows_ddl_does_nothing_while_the_package_changes_a_table() -> None:
    shared, told = tools(), list[str]()
    follow = shared.unless_alone(told.append)
    follow("before")
    shared.alone(follow)("meanwhile")
    follow("after")
    assert told == ["before", "after"]


def test_an_error_ends_the_change_of_a_table() -> None:
    shared, told = tools(), list[str]()
    with pytest.raises(ZeroDivisionError):
        shared.alone(lambda: 1 / 0)()
    shared.unless_alone(told.append)("after")
    assert told == ["after"]


# Each step is a routine that changes a table, with the steps in it, and whether it fails; or a step that follows DDL.
STEPS = st.recursive(
    st.just("follow"),
    lambda inner: st.tuples(st.lists(inner, max_size=4), st.booleans()),
    max_leaves=12,
)


@given(steps=st.lists(STEPS, max_size=4))
def test_any_nesting_of_routines(steps: list[Any]) -> None:
    shared, followed = tools(), list[bool]()
    follow = shared.unless_alone(followed.append)

    def run(step: Any, outside: bool) -> None:
        if step == "follow":
            follow(outside)
            return
        inner, fails = step

        def routine() -> None:
            for one in inner:
                run(one, False)
            if fails:
                raise errors.BadInput("no")

        try:
            shared.alone(routine)()
        except errors.BadInput:
            assert fails

    for step in steps:
        run(step, True)
    assert followed == [True for step in steps if step == "follow"]
