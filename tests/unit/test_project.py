"""Rules that hold for the project's own files: SQL, modules, pins, version, paths."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pglast
import pytest
from pglast import ast as pg
from pglast.enums import FunctionParameterMode, ObjectType

from pg_envelope._version import VERSION

ROOT = Path(__file__).parents[2]
SQL = sorted((ROOT / "sql").glob("[0-9]*.sql"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTROL = (ROOT / "extension/pg_envelope.control").read_text()
PACKAGES = ("plpython/pg_envelope", "client/pg_envelope_client")
MODULES = [path.relative_to(ROOT).as_posix() for top in PACKAGES for path in sorted((ROOT / top).rglob("*.py"))]
THIN_LINES = 3
OURS = {".ci", ".gitignore", ".dockerignore"}
NOT_OURS = {"__pycache__", "build", "results", "_version.py", f"pg_envelope--{VERSION}.sql"}
# A checkout's place on somebody's machine; /home/trial is a user that a script makes.
SOMEBODYS_PATH = re.compile(rb"/(?:work|Users)/|/home/(?!trial\b)\w+/")


@cache
def statements() -> list[Any]:
    """What CREATE EXTENSION runs: the Makefile's `cat`; the line before it is psql's."""
    return [raw.stmt for raw in pglast.parse_sql("".join(path.read_text() for path in SQL))]


def qualified(names: Any) -> str:
    return ".".join(name.sval for name in names)


def relation(found: Any) -> str:
    return f"{found.schemaname}.{found.relname}"


def functions() -> list[pg.CreateFunctionStmt]:
    return [stmt for stmt in statements() if isinstance(stmt, pg.CreateFunctionStmt)]


def options(function: pg.CreateFunctionStmt) -> dict[str, Any]:
    """DefElem by name; `set` as the names of the settings that the function pins."""
    given = function.options or ()
    found = {option.defname: option.arg for option in given}
    found["set"] = [option.arg.name for option in given if option.defname == "set"]
    return found


def named(found: list[pg.CreateFunctionStmt]) -> list[Any]:
    return [pytest.param(stmt, id=f"{qualified(stmt.funcname)}-{place}") for place, stmt in enumerate(found)]


def commented(*kinds: ObjectType) -> Counter[str]:
    """How many objects of a name have a comment; overloads count one by one."""
    comments = [stmt for stmt in statements() if isinstance(stmt, pg.CommentStmt) and stmt.objtype in kinds]
    return Counter(qualified(getattr(stmt.object, "objname", stmt.object)) for stmt in comments if stmt.comment)


def test_the_makefile_builds_the_script_from_these_files() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "SQL := $(sort $(wildcard sql/[0-9]*.sql))" in makefile
    assert "cat /dev/null $(SQL)" in makefile
    assert sorted((ROOT / "sql").iterdir()) == SQL, "a file of sql/ that is not built"


def test_every_function_and_procedure_has_a_comment() -> None:
    kinds = ObjectType.OBJECT_FUNCTION, ObjectType.OBJECT_PROCEDURE, ObjectType.OBJECT_ROUTINE
    assert commented(*kinds) == Counter(qualified(stmt.funcname) for stmt in functions())


def test_every_table_view_and_domain_has_a_comment() -> None:
    made = {relation(stmt.relation) for stmt in statements() if isinstance(stmt, pg.CreateStmt)}
    made |= {relation(stmt.view) for stmt in statements() if isinstance(stmt, pg.ViewStmt)}
    assert made == set(commented(ObjectType.OBJECT_TABLE, ObjectType.OBJECT_VIEW))
    domains = [stmt.domainname for stmt in statements() if isinstance(stmt, pg.CreateDomainStmt)]
    comments = [stmt for stmt in statements() if getattr(stmt, "objtype", None) is ObjectType.OBJECT_DOMAIN]
    assert len(domains) == len(comments)


@pytest.mark.parametrize("function", named(functions()))
def test_a_function_pins_its_search_path(function: pg.CreateFunctionStmt) -> None:
    """But for kinds that look nothing up by name with their owner's rights, and where SET would cost too much:
    thin Python on the hot path, SQL that is parsed once, when it is created, and inlined, and C of the server itself.
    """
    found = options(function)
    thin = found["language"].sval == "plpython3u" and "GD[" in found["as"][0].sval
    parsed_once = function.sql_body is not None
    internal = found["language"].sval == "internal"
    qualifies = qualified(function.funcname) in QUALIFIED
    pinned = "search_path" in found["set"] or qualifies
    assert pinned or (not found.get("security") and (thin or parsed_once or internal))


# What CHECKs call, statement triggers of one assignment, an event trigger, and what views call in each statement. Every
# name in them is qualified: tests/security/test_privileges.py looks.
QUALIFIED = (
    "envelope_internal.is_draft",
    "envelope_internal.mask_of",
    "envelope_internal.read_id",
    "envelope_internal.ddl_begins",
    "envelope_internal.mend_begins",
    "envelope_internal.mend_ends",
    "envelope_internal.erased_pass",
)


@pytest.mark.parametrize("function", named(functions()))
def test_a_python_body_is_thin(function: pg.CreateFunctionStmt) -> None:
    found = options(function)
    if found["language"].sval == "plpython3u" and qualified(function.funcname) != "envelope_internal.bootstrap":
        assert len(found["as"][0].sval.strip().splitlines()) <= THIN_LINES


@pytest.mark.parametrize("function", named(functions()))
def test_an_immutable_function_decrypts_nothing(function: pg.CreateFunctionStmt) -> None:
    """PostgreSQL would fold it into the plan, and EXPLAIN would show what it returned."""
    volatility = options(function).get("volatility")
    if volatility is not None and volatility.sval == "immutable":
        assert "crypt" not in qualified(function.funcname)
        assert options(function)["language"].sval != "plpython3u" or qualified(function.funcname) in WITHOUT_SNAPSHOT


# They return nothing of a value, and are IMMUTABLE to see the snapshot of the statement whose trigger calls them.
WITHOUT_SNAPSHOT = (
    "envelope_internal.reading",
    "envelope_internal.unreadable",
    "envelope_internal.note_update",
    "envelope_private.note_insert",
    "envelope_internal.inserts_softly",
    "envelope_internal.mark",
    "envelope_internal.marked",
)


def test_the_manual_shows_what_people_call() -> None:
    r"""\df+ envelope.* is the manual: what views, triggers and the package itself call is in another schema."""
    pages = "".join(path.read_text() for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
    names = {qualified(stmt.funcname) for stmt in functions()}
    people = {name.removeprefix("envelope.") for name in names if name.startswith("envelope.")}
    assert {name for name in people if not re.search(rf"\b{name}\b", pages)} == set()


# Nobody calls these by hand, and each value is a call.
FOR_EACH_VALUE = {
    *(
        f"envelope_internal.{act}_{kind}{path}"
        for act in ("encrypt", "decrypt", "legacy")
        for kind in ("text", "bytea")
        for path in ("", "_as_role")
    ),
    *(f"envelope_internal.decrypt_{kind}_{path}" for kind in ("text", "bytea") for path in ("audited", "masked")),
    *(f"envelope_internal.{name}" for name in ("reseal", "seal_draft", "reading", "legacy_opens")),
}


@pytest.mark.parametrize("function", named(functions()))
def test_arguments_have_names(function: pg.CreateFunctionStmt) -> None:
    r"""\df shows them, and callers can use them. Where each value is a call they cost a twentieth of it."""
    inputs = [p for p in function.parameters or () if p.mode is not FunctionParameterMode.FUNC_PARAM_TABLE]
    with_names = qualified(function.funcname) not in FOR_EACH_VALUE
    assert all(bool(parameter.name) is with_names for parameter in inputs)


def test_the_extension_makes_no_roles_and_grants_to_public_and_for_dumps_only() -> None:
    """pg_database_owner is PostgreSQL's own: what it gets is in tests/integration/operations/test_dump_roles.py."""
    assert not [stmt for stmt in statements() if isinstance(stmt, pg.CreateRoleStmt | pg.AlterRoleStmt)]
    grants = [stmt for stmt in statements() if isinstance(stmt, pg.GrantStmt)]
    grantees = {grantee.rolename for stmt in grants for grantee in stmt.grantees or ()}
    assert grantees == {None, "pg_database_owner"}, "None is PUBLIC"


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_sql_files_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def imports(module: str) -> Iterator[str]:
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def importers(package: str) -> set[str]:
    return {module for module in MODULES if any(name.split(".")[0] == package for name in imports(module))}


def uses_plpy(module: str) -> bool:
    """An attribute of plpy is used; handing the object on is none."""
    held = (node.value for node in ast.walk(parsed(module)) if isinstance(node, ast.Attribute))
    return any(getattr(value, "id", getattr(value, "attr", "")) in ("plpy", "_plpy") for value in held)


def test_one_module_knows_plpy() -> None:
    assert {module for module in MODULES if uses_plpy(module)} == {"plpython/pg_envelope/backend/host.py"}
    assert not importers("plpy")


@pytest.mark.parametrize(
    ("package", "provider"),
    [
        ("hvac", "vault"),
        ("boto3", "aws"),
        ("botocore", "aws"),
        ("pkcs11", "pkcs11"),
        ("azure", "azure"),
        ("google", "google"),
        ("kmip", "kmip"),
    ],
)
def test_only_a_provider_s_own_modules_know_its_sdk(package: str, provider: str) -> None:
    allowed = re.compile(
        rf"plpython/pg_envelope/broker/kms/providers/{provider}\w*\.py|client/pg_envelope_client/(setup|sealing)/{provider}\w*\.py"
    )
    found = importers(package)
    assert found
    assert not [module for module in found if not allowed.fullmatch(module)]


def test_the_client_is_thin() -> None:
    """It seals by the modules that all sides share, and knows neither the backend's code nor an AEAD of its own."""
    client = [module for module in MODULES if module.startswith("client/")]
    names = {name for module in client for name in imports(module)}
    assert not {
        name for name in names if name.startswith(("pg_envelope.backend", "cryptography.hazmat.primitives.ciph"))
    }


# A room of the broker may use itself and those before it; the files of no room are the process, and may use all.
ROOMS = ("system", "settings", "watch", "kms", "keys", "ledger", "requests", "door")


def room(name: str) -> str:
    """The broker's room that a module or path is in; "" for none."""
    found = re.match(r"(?:plpython/)?pg_envelope[./]broker[./](\w+)[./]", name + ".")
    return found[1] if found and found[1] in ROOMS else ""


@pytest.mark.parametrize("module", [module for module in MODULES if room(module)])
def test_the_broker_s_rooms_use_each_other_in_one_direction(module: str) -> None:
    before = ROOMS[: ROOMS.index(room(module)) + 1]
    used = [name for name in imports(module) if name.startswith("pg_envelope.broker")]
    assert all(room(name) in before for name in used), used


def test_every_file_of_the_broker_has_a_room_or_is_its_process() -> None:
    found = {module.rpartition("/")[2] for module in MODULES if "/broker/" in module and not room(module)}
    assert found == {"__init__.py", "__main__.py", "app.py", "check.py", "prepare.py", "server.py", "startup.py"}


def classes(module: str) -> list[str]:
    return [node.name for node in ast.walk(parsed(module)) if isinstance(node, ast.ClassDef)]


def test_a_class_has_its_name_alone() -> None:
    counted = Counter(name for module in MODULES for name in classes(module))
    assert not [name for name, count in counted.items() if count > 1]


def python(code: str) -> str:
    """What a fresh interpreter prints; any warning is an error."""
    command = [sys.executable, "-I", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_imports_outside_the_server() -> None:
    paths = (module.split("/", 1)[1].removesuffix(".py").removesuffix("/__init__") for module in MODULES)
    wanted = sorted(path.replace("/", ".") for path in paths if not path.endswith("/__main__"))
    assert "pg_envelope.backend.session" in wanted
    python(
        f"""
import importlib, sys
for name in {wanted!r}: importlib.import_module(name)
assert 'plpy' not in sys.modules"""
    )


def test_a_backend_loads_no_more_than_it_needs() -> None:
    """Each of these would be paid by every new connection's first read."""
    heavy = {"hvac", "requests", "asyncio", "psycopg", "typer", "rich", "tomllib", "urllib.request"}
    heavy |= {"dataclasses", "inspect", "uuid", "hmac", "hashlib", "_hashlib", "ctypes"}
    heavy |= {"typing", "re", "enum", "json", "base64", "socket"}
    assert not heavy & loaded_with("session")
    # A first write imports these, too.
    assert not (heavy - {"ctypes"}) & loaded_with("writes", "scope_keys")


def loaded_with(*names: str) -> set[str]:
    imports = ", ".join(f"pg_envelope.backend.{name}" for name in names)
    return set(python(f"import sys, {imports}\nprint(*sys.modules)").split())


def requirements() -> list[str]:
    project = PROJECT["project"]
    extras = (line for lines in project["optional-dependencies"].values() for line in lines)
    return [*PROJECT["build-system"]["requires"], *project["dependencies"], *extras]


@pytest.mark.parametrize("requirement", requirements())
def test_requirements_are_pinned(requirement: str) -> None:
    ours = requirement.startswith("pg-envelope[")
    assert ours or re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.]+", requirement)


def test_the_version_is_the_control_file_s() -> None:
    (version,) = re.findall(r"^default_version = '([^']+)'$", CONTROL, re.MULTILINE)
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "extension/pg_envelope.control"
    assert importlib.metadata.version("pg-envelope") == VERSION == version
    elsewhere = re.compile(rf"version\W+{re.escape(version)}\b".encode(), re.IGNORECASE)
    assert not [
        path for path in files() if path.suffix not in (".control", ".md") and elsewhere.search(path.read_bytes())
    ]


def files() -> list[Path]:
    """The project's own files, as a clone has them."""
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".") or top.name in OURS]
    found = (path for top in tops for path in (top, *top.rglob("*")) if path.is_file())
    return [path for path in found if not NOT_OURS & set(path.relative_to(ROOT).parts)]


def test_files_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`([\w/]+(?:\.(?:py|sql)|/))`", page)
    assert len(named) > 20
    places = ROOT, ROOT / "plpython/pg_envelope", ROOT / "plpython/pg_envelope/backend"
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_no_file_names_a_place_on_somebody_s_machine() -> None:
    assert not [path for path in files() if SOMEBODYS_PATH.search(path.read_bytes())]
