"""A search for plaintext in all that a server writes: heap, TOAST, WAL, temporary files, logs and statistics.

What a client puts into the text of a statement is in the log before the extension sees it; so values go as parameters
here, and the server is told to log no parameters (log_parameter_max_length = 0, and auto_explain's), as docs advise.
In one session it logs all of them. That session gives none: its values come by COPY.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.postgres import pg_config
from stack.stack import Stack
from tests.fix_stack import ROLES, Database, fast_place
from tests.security import fix_sweep

LOUD = {
    "shared_preload_libraries": "auto_explain,pg_stat_statements",
    "log_statement": "all",
    "log_min_messages": "debug1",
    "log_min_error_statement": "debug5",
    "log_min_duration_statement": "0",
    "log_error_verbosity": "verbose",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_temp_files": "0",
    "log_lock_waits": "on",
    "deadlock_timeout": "10ms",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_triggers": "on",
    # Since PostgreSQL 16; an older server leaves it out.
    "auto_explain.log_parameter_max_length": "0",
    "pg_stat_statements.track": "all",
    "track_activity_query_size": "65536",
    "work_mem": "64kB",
    "autovacuum": "off",
}
CONTROL = "control-of-the-search-4f1d"
TABLE = """
CREATE TABLE person (
    id int PRIMARY KEY, nick text UNIQUE, email text NOT NULL CHECK (email LIKE '%@%'), pin numeric, photo bytea,
    note text)
"""
COLUMNS = {
    "email": {"search": "exact", "unique": True},
    "pin": {"search": "exact"},
    "photo": {},
    "note": {"search": {"exact": {"normalize": "casefold"}}},
}
# PostgreSQL puts SQL functions that are one expression in place, and counts no call of them.
UNCALLED = """
SELECT DISTINCT proname FROM pg_proc p LEFT JOIN pg_stat_user_functions s ON s.funcid = p.oid
WHERE pronamespace IN ('envelope'::regnamespace, 'envelope_pgcrypto'::regnamespace)
    AND NOT (prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql') AND prosqlbody IS NOT NULL AND NOT prosecdef)
GROUP BY proname HAVING count(s.calls) = 0"""
NUMBERS = itertools.count(71_000_001)


class Markers:
    """Values found nowhere else, each remembered."""

    def __init__(self) -> None:
        self.made: dict[str, bytes] = {}
        # Passwords and their hashes: they are in a table in the clear, and belong in no log.
        self.unlogged: dict[str, bytes] = {}
        # Functions of the extension that the sweep did not call.
        self.uncalled: set[str] = set()

    def text(self, path: str) -> str:
        return self._keep(path, f"mark-{next(NUMBERS)}-{path}")

    def email(self, path: str) -> str:
        return self._keep(path + " e-mail", f"mark.{next(NUMBERS)}@example.org")

    def long(self, path: str) -> str:
        """Long enough for TOAST, in a form that compression leaves as it is in part."""
        mark = self.text(path)
        return mark + "".join(chr(0x4E00 + number * 7919 % 20000) for number in range(3000)) + mark

    def number(self, path: str) -> str:
        return self._keep(path + " number", f"{next(NUMBERS)}{next(NUMBERS)}")

    def photo(self, path: str) -> bytes:
        return self.text(path + "-photo").encode() + bytes(range(256))

    def _keep(self, path: str, mark: str) -> str:
        self.made[path] = mark.encode()
        return mark

    def person(self, number: int, path: str) -> tuple[Any, ...]:
        return (number, f"n{number}", self.email(path), self.number(path), self.photo(path), self.text(path + "-note"))


def forms(mark: bytes) -> list[bytes]:
    """A marker as it may be written: as it is, in hex, and digits as numeric stores them (base 10,000)."""
    found = [mark, mark.hex().encode()]
    if mark.isdigit():
        padded = mark.rjust(-(-len(mark) // 4) * 4, b"0")
        found.append(b"".join(int(padded[at : at + 4]).to_bytes(2, "little") for at in range(0, len(padded), 4)))
    return found


def found_in(top: Path, marks: dict[str, bytes]) -> set[tuple[str, str]]:
    """Which markers are in which files below a folder."""
    wanted = [(name, form) for name, mark in marks.items() for form in forms(mark)]
    hits = set()
    for file in (file for file in top.rglob("*") if file.is_file() and not file.is_symlink()):
        content = file.read_bytes()
        hits |= {(name, str(file.relative_to(top))) for name, form in wanted if form in content}
    return hits


def since(major: int) -> bool:
    """Whether the server's version is this one or a newer one."""
    return int(str(pg_config("--version")).split()[1].split(".")[0]) >= major


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose server logs all it can."""
    newer = {"log_lock_failures": "on"} if since(18) else {}
    made = Stack(tmp_path_factory.mktemp("loud"), postgres_settings=LOUD | newer, place=fast_place())
    made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def marks(loud: Stack) -> Markers:
    """All paths of writing and reading, run once; then the server is stopped, and its files are at rest."""
    with loud.connect("postgres") as connection:
        for role in ROLES:
            connection.execute(f"CREATE ROLE {role} LOGIN")
    database = Database(loud, "app")
    database.sql("CREATE EXTENSION pg_stat_statements")
    marks = Markers()
    write_everything(database, marks)
    read_everything(database)
    sweep(database, marks)
    shown = str(database.sql("SELECT query FROM pg_stat_statements")) + str(database.sql("TABLE pg_stats"))
    shown += str(database.sql("TABLE pg_stat_activity"))
    assert [name for name, mark in marks.made.items() if mark.decode() in shown] == []
    database.sql("CREATE TABLE planted (value text)")
    # At the beginning of a file of WAL: a checkpoint removes earlier ones, and no page ends within the text.
    database.sql("SELECT pg_switch_wal()")
    database.sql("INSERT INTO planted VALUES (%s)", CONTROL)
    database.sql("CHECKPOINT")
    database.close()
    loud.cluster.stop()
    return marks


def write_everything(db: Database, marks: Markers) -> None:
    db.sql(TABLE)
    db.sql("ALTER TABLE person OWNER TO owner")
    db.sql("CALL envelope.protect('person', %s::jsonb)", json.dumps(COLUMNS))
    db.sql("SELECT envelope.create_key('k'), envelope.grant_key('k', 'owner')")
    owner = db.connect("owner")
    insert = "INSERT INTO person VALUES (%s, %s, %s, %s::numeric, %s, %s)"
    owner.execute(insert, marks.person(1, "insert"))
    owner.execute(insert, (2, "n2", marks.email("long"), None, None, marks.long("long")))
    for number in range(10, 16):
        owner.execute(insert, marks.person(number, f"prepared-{number}"), prepare=True)
    owner.execute("UPDATE person SET note = %s, pin = %s::numeric", (marks.text("update"), marks.number("update")))
    owner.execute("UPDATE person SET id = 1000 WHERE id = 15")
    copy_rows(db, marks)
    search(db, owner, marks)
    fail(owner, insert, (501, "x", marks.text("check").replace("@", ""), None, None, marks.text("check-note")))
    fail(owner, insert, (502, "x", None, None, None, marks.text("not-null")))
    fail(owner, insert, (503, "n1", marks.email("unique"), marks.number("unique"), None, marks.text("unique-note")))
    fail(owner, insert, (1, "y", marks.email("primary-key"), None, None, marks.text("primary-key-note")))
    fail(owner, "UPDATE person SET email = NULL, note = %s WHERE id = 1", (marks.text("update-null"),))
    fail(owner, "UPDATE person SET email = %s WHERE id = 1", (marks.text("update-check"),))
    fail(owner, "INSERT INTO person (id, email) SELECT 1/0, %s", (marks.email("division"),))
    owner.execute("SELECT envelope.encrypt(%s::text, 'k', 'c')", (marks.text("encrypt"),))
    owner.execute("CREATE TEMP TABLE mine AS SELECT envelope.encrypt(%s::bytea, 'k') AS kept", (marks.photo("named"),))
    fail(owner, "SELECT envelope.encrypt(%s::text, 'none')", (marks.text("no-key"),))
    fail(owner, "SELECT envelope_internal.encrypt_text(%s, NULL, '1')", (marks.text("no-seal"),))
    with contextlib.suppress(psycopg.Error), owner.transaction():
        owner.execute(insert, marks.person(600, "rolled-back"))
        raise psycopg.Error
    db.sql("SELECT envelope.rotate('person')")
    db.sql("CALL envelope.reencrypt('person', 50)")
    db.sql("ANALYZE")
    db.sql("VACUUM person_encrypted")


def search(db: Database, owner: psycopg.Connection[Any], marks: Markers) -> None:
    """What is looked for is as secret as what is there; and no log holds a token.

    A plan that is made for one value shows it, to auto_explain and EXPLAIN, as on any table: SECURITY.md.
    """
    owner.execute("SET plan_cache_mode = force_generic_plan")
    query = "SELECT id FROM person WHERE email_search = %s OR note_search = ANY (%s)"
    for number in range(8):
        needles = marks.email(f"needle-{number}"), [marks.text(f"listed-{number}"), marks.text(f"listed-too-{number}")]
        assert owner.execute(query, needles, prepare=number > 1).fetchall() == []
    fail(owner, "SELECT id FROM person WHERE note_search IN (%s, %s)", (marks.text("untyped"), marks.text("untyped-2")))
    fail(owner, "SELECT id FROM person WHERE note_search LIKE %s", (marks.text("like"),))
    fail(owner, "UPDATE person SET email = 'n@' || %s", (marks.text("token-twice"),))
    owner.execute("RESET plan_cache_mode")
    tokens = db.sql("SELECT email_search::text FROM person_encrypted WHERE email_search IS NOT NULL")
    assert tokens
    marks.unlogged |= {f"token {number}": token[2:].encode() for number, (token,) in enumerate(tokens)}


def sweep(db: Database, marks: Markers) -> None:
    """Whatever the log shows of these values, the package or its generated code has put there.

    Statements may fail, with errors that the log shows in full; in another database the same rows give no error.
    """
    for setting in fix_sweep.SETTINGS.items():
        db.sql("SELECT set_config(%s, %s, false) FROM pg_settings WHERE name = %s", *setting, setting[0])
    db.sql(fix_sweep.TABLES)
    given(db, marks)
    for statement in fix_sweep.statements(db.admin.info.server_version):
        with contextlib.suppress(psycopg.Error):
            db.sql(statement)
    secrets = [value for (value,) in db.sql(fix_sweep.UNLOGGED)]
    marks.unlogged |= {f"secret {number}": value.encode() for number, value in enumerate(secrets)}
    db.sql("SELECT pg_stat_force_next_flush()")
    marks.uncalled = {name for (name,) in db.sql(UNCALLED)}
    contend(db)
    db.sql(fix_sweep.DROPPED)


def contend(db: Database) -> None:
    """Locks that are not had: what the log says of them, and its CONTEXT."""
    with db.connect() as other, other.transaction():
        other.execute("SELECT FROM swept.by_tenant_encrypted FOR UPDATE")
        fail(db.admin, "SELECT note FROM by_tenant FOR UPDATE NOWAIT", ())
        fail(db.admin, "SET lock_timeout = '100ms'; UPDATE by_tenant t SET note = g.note FROM given g", ())
    db.sql("RESET lock_timeout")


def given(db: Database, marks: Markers) -> None:
    """Rows that no statement holds as text or parameter, in a temporary table: that is in no file in the end."""
    db.sql(f"CREATE TEMP TABLE given ({fix_sweep.GIVEN})")
    secret = Markers()
    with db.admin.cursor().copy("COPY given FROM STDIN (FORMAT binary)") as copying:
        copying.set_types(["int4", "text", "text", "text", "text"])
        for number in range(1, 9):
            note = marks.text(f"sweep-{number}-note")
            copying.write_row((number, "acme", marks.email(f"sweep-{number}"), note, secret.text(f"secret-{number}")))
    marks.unlogged |= secret.made


def copy_rows(db: Database, marks: Markers) -> None:
    """Rows by COPY in both forms, and in both one that fails.

    PostgreSQL quotes the present line of a COPY in text form in the CONTEXT of whatever is logged meanwhile, an error
    of that row first of all. So: the binary form, or a log without CONTEXT.
    """
    for first, form, verbosity in ((20, "text", "terse"), (60, "binary", "verbose")):
        rows = [(number, f"n{number}", marks.email(f"{form}-{number}"), None, None, marks.text(f"{form}-{number}-note"))
                for number in range(first, first + 40)]  # fmt: skip
        again = (first, f"again {form}", marks.email(f"{form}-fails"), None, None, marks.text(f"{form}-fails-note"))
        with db.connect() as connection:
            connection.execute(f"SET log_error_verbosity = {verbosity}")
            copy(connection, form, rows)
            with pytest.raises(psycopg.errors.UniqueViolation):
                copy(connection, form, [again])


def copy(connection: psycopg.Connection[Any], form: str, rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor().copy(
        f"COPY person (id, nick, email, pin, photo, note) FROM STDIN (FORMAT {form})"
    ) as copying:
        copying.set_types(["int4", "text", "text", "numeric", "bytea", "text"])
        for row in rows:
            copying.write_row(row)


def fail(connection: psycopg.Connection[Any], statement: str, values: tuple[Any, ...]) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute(statement, values)


def read_everything(db: Database) -> None:
    """Plans of all kinds: a sort that spills would write plaintext to disk, so none of these sorts decrypted values."""
    owner = db.connect("owner")
    for statement in (
        "SELECT * FROM person",
        "SELECT * FROM person ORDER BY id DESC",
        "SELECT count(*) FROM person WHERE note LIKE '%none%'",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM person WHERE email = 'nobody'",
        "SELECT p.email FROM person p JOIN generate_series(1, 500) g ON p.id = g",
    ):
        owner.execute(statement)


def test_no_marker_is_in_any_file_of_the_server(loud: Stack, marks: Markers) -> None:
    assert found_in(loud.cluster.data, marks.made) == set()


def test_no_marker_is_in_any_log(loud: Stack, marks: Markers) -> None:
    logs = loud.cluster.directory / "logs"
    logs.mkdir()
    for file in (loud.cluster.log, loud.broker.log, loud.broker.audit_log):
        # Each line once: plans repeat themselves thousands of times.
        (logs / file.name).write_bytes(b"\n".join(set(file.read_bytes().split(b"\n"))))
    assert (logs / loud.cluster.log.name).read_text().count("envelope_internal.encrypt") > 100, (
        "nested statements are logged"
    )
    assert found_in(logs, marks.made | marks.unlogged) == set()


def test_the_search_finds_what_was_planted(loud: Stack, marks: Markers) -> None:
    places = {place.split("/")[0] for _, place in found_in(loud.cluster.data, {"control": CONTROL.encode()})}
    assert {"base", "pg_wal"} <= places
    assert len(marks.made) > 150


def test_the_sweep_calls_whatever_takes_a_value(marks: Markers) -> None:
    assert marks.uncalled <= fix_sweep.WITHOUT_VALUES


def test_the_search_knows_how_numeric_stores_digits(loud: Stack, marks: Markers) -> None:
    assert forms(b"12345678")[2] == (1234).to_bytes(2, "little") + (5678).to_bytes(2, "little")
