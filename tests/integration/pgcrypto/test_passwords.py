"""Passwords in SQL: hashes, what verifies, and a column of plaintext passwords hashed in place."""

from __future__ import annotations

import ctypes
import ctypes.util
import threading
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database

VERIFY = "SELECT envelope.verify_password(%s::text, %s::text)"
HASHED = "pw ~ '^\\$(2a\\$12|argon2id)\\$'"


def libcrypt(password: str, setting: str) -> str:
    """The hash that the operating system's own crypt() makes."""
    name = ctypes.util.find_library("crypt")
    assert name is not None
    crypt = ctypes.CDLL(name).crypt
    crypt.restype = ctypes.c_char_p
    made: bytes = crypt(password.encode(), setting.encode())
    return made.decode()


@pytest.mark.parametrize(
    ("algorithm", "start"), [("bcrypt", "$2a$12$"), ("argon2id", "$argon2id$v=19$m=65536,t=3,p=4$")]
)
def test_hash_and_verify(both: Database, algorithm: str, start: str) -> None:
    made = both.one("SELECT envelope.hash_password('Zoë', %s)", algorithm, user="alice")
    assert made.startswith(start)
    assert both.one(VERIFY, "Zoë", made, user="alice") is True
    assert both.one(VERIFY, "Zoe", made) is False
    assert both.one("SELECT envelope.password_needs_rehash(%s)", made, user="alice") is False


def test_bcrypt_is_the_default(both: Database) -> None:
    assert both.one("SELECT envelope.hash_password('x')").startswith("$2a$12$")


SALT = "DCq7YPn5Rq63x1Lad4cll."
ARGON2 = "$argon2id$v=19${}$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"


@pytest.mark.parametrize("password", ["", "foox", "Zoë", "\u00ff\u00a3", "\u20ac" * 24, "x" * 72])
@pytest.mark.parametrize("name", ["2a", "2b", "2y"])
def test_bcrypt_of_other_libraries(both: Database, name: str, password: str) -> None:
    made = libcrypt(password, f"${name}$04${SALT}")
    assert made.startswith(f"${name}$")
    assert both.one(VERIFY, password, made) is True
    assert both.one(VERIFY, "another", made) is False


@pytest.mark.parametrize("salt", ["'bf', 5", "'md5'", "'xdes'", "'des'"])
def test_crypts_older_formats_verify_and_need_a_rehash(both: Database, salt: str) -> None:
    made = both.one(f"SELECT envelope_pgcrypto.crypt('secret', envelope_pgcrypto.gen_salt({salt}))")
    assert both.one(VERIFY, "secret", made) is True
    assert both.one(VERIFY, "other", made) is False
    assert both.one("SELECT envelope.password_needs_rehash(%s)", made) is True


@pytest.mark.parametrize("setting", ["$5$saltstring", "$6$saltstring"])
def test_sha_crypt(both: Database, setting: str) -> None:
    made = libcrypt("secret", setting)
    if both.admin.info.server_version >= 180000:
        assert both.one(VERIFY, "secret", made) is True
    else:
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            both.sql(VERIFY, "secret", made)


@pytest.mark.parametrize(
    "planted",
    [
        f"$2b$16${SALT}{'a' * 31}",
        f"$2a$31${SALT}{'a' * 31}",
        ARGON2.format("m=262145,t=1,p=1"),
        ARGON2.format("m=4294967295,t=1,p=1"),
        ARGON2.format("m=9999999999,t=9999999999,p=1"),
        ARGON2.format("m=8,t=65,p=1"),
        ARGON2.format("m=65536,t=17,p=4"),
        ARGON2.format("m=65536,t=1,p=65"),
        "$5$rounds=1000001$salt$" + "a" * 43,
        "$6$rounds=999999999$salt$" + "a" * 86,
        "_zzzz" + "a" * 15,
        "_./.2" + "a" * 15,
    ],
)
def test_a_planted_hash_cannot_stall_a_session(both: Database, planted: str) -> None:
    both.sql("SET statement_timeout = '5min'")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="would cost too much") as refused:
        both.sql(VERIFY, "secret", planted)
    assert ": at most " in str(refused.value.diag.message_detail)
    assert "password_limits()" in str(refused.value.diag.message_hint)


@pytest.mark.parametrize("long", ["$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + "A" * 10**7, "$2b$" * 10**6])
def test_a_text_longer_than_any_hash_is_none(both: Database, long: str) -> None:
    assert both.one(VERIFY, "secret", long) is False


def test_the_dearest_hashes_that_are_allowed_verify(both: Database) -> None:
    made = both.one("SELECT envelope_pgcrypto.crypt('x', envelope_pgcrypto.gen_salt('xdes', 1048575))")
    assert both.one(VERIFY, "x", made) is True
    assert both.one("SELECT max(most) FROM envelope.password_limits() WHERE algorithm = 'bcrypt'", user="alice") == 15


@pytest.mark.parametrize(
    "malformed",
    ["", "*", "!", "secret", "$2a$12$short", "$2a$99$" + "a" * 53, "$argon2id$v=19$m=1", "_...." + "a" * 15],
)
def test_what_is_no_hash_verifies_nothing(both: Database, malformed: str) -> None:
    assert both.one(VERIFY, "secret", malformed) is False
    assert both.one(VERIFY, malformed, malformed) is False
    assert both.one("SELECT envelope.password_needs_rehash(%s)", malformed) is True


def test_null_stays_null(both: Database) -> None:
    calls = (
        "hash_password(NULL)",
        "verify_password(NULL, 'x')",
        "verify_password('x', NULL)",
        "password_needs_rehash(NULL)",
    )
    for call in calls:
        assert both.one(f"SELECT envelope.{call}") is None


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("hash_password(repeat('x', 73))", "22001"),
        ("hash_password(repeat('é', 37))", "22001"),
        ("hash_password('hunter2', 'md5')", "22023"),
    ],
)
def test_refusals_name_no_password(both: Database, call: str, sqlstate: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        both.sql(f"SELECT envelope.{call}")
    report = caught.value.diag
    assert caught.value.sqlstate == sqlstate
    assert report.message_hint
    for shown in (report.message_primary, report.message_detail, report.message_hint, report.context):
        assert not shown or ("hunter2" not in shown and "xx" not in shown and "éé" not in shown)


def test_an_older_bcrypt_asks_for_a_rehash(both: Database) -> None:
    for rounds, wanted in (("04", True), ("11", True), ("12", False), ("13", False)):
        made = f"$2b${rounds}${SALT}" + "a" * 31
        assert both.one("SELECT envelope.password_needs_rehash(%s)", made) is wanted
    weaker = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
    assert both.one("SELECT envelope.password_needs_rehash(%s)", weaker) is True


def plain_table(db: Database, count: int, definition: str = "text") -> None:
    db.sql(f"CREATE TABLE login (id int PRIMARY KEY, pw {definition}, note text)")
    db.sql("ALTER TABLE login OWNER TO owner")
    db.sql("INSERT INTO login SELECT g, 'secret' || g, 'n' FROM generate_series(1, %s) g", count)


def hash_all(db: Database, batch_size: int = 2) -> list[str]:
    notices: list[str] = []
    connection = db.connect()
    connection.add_notice_handler(lambda report: notices.append(f"{report.message_primary} {report.message_hint}"))
    connection.execute("CALL envelope.hash_passwords('login', 'pw', %s)", [batch_size])
    return notices


@pytest.mark.parametrize("definition", ["text", "varchar(120)"])
def test_hash_passwords(db: Database, definition: str) -> None:
    plain_table(db, 3, definition)
    bcrypt = db.one("SELECT envelope_pgcrypto.crypt('before', envelope_pgcrypto.gen_salt('bf', 4))")
    db.sql("INSERT INTO login VALUES (10, NULL), (11, repeat('x', 80)), (12, %s), (13, '')", bcrypt)
    notices = hash_all(db)
    assert "4 passwords hashed" in notices[-1]
    assert "VACUUM" in notices[-1]
    plain = {1: "secret1", 2: "secret2", 3: "secret3", 11: "x" * 80, 12: "before"}
    for number, password in plain.items():
        assert (
            db.one("SELECT envelope.verify_password(%s::text, pw) FROM login WHERE id = %s", password, number) is True
        )
    assert db.one("SELECT pw FROM login WHERE id = 12") == bcrypt
    assert db.one("SELECT pw FROM login WHERE id = 10") is None
    before = db.sql("TABLE login ORDER BY id")
    assert "0 passwords hashed" in hash_all(db)[-1]
    assert db.sql("TABLE login ORDER BY id") == before


def test_hashes_are_known_whatever_the_string_syntax(db: Database) -> None:
    plain_table(db, 1)
    hash_all(db)
    before = db.sql("TABLE login")
    db.sql("SET standard_conforming_strings = off; SET escape_string_warning = off")
    db.sql("CALL envelope.hash_passwords('login', 'pw')")
    assert db.sql("TABLE login") == before


def test_partitions(db: Database) -> None:
    db.sql("CREATE TABLE login (id int, pw text) PARTITION BY LIST (id)")
    db.sql("CREATE TABLE p1 PARTITION OF login FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF login DEFAULT")
    db.sql("INSERT INTO login VALUES (1, 'a'), (2, 'b')")
    assert "2 passwords hashed" in hash_all(db)[-1]
    assert db.one(f"SELECT count(*) FROM login WHERE {HASHED}") == 2


def test_a_killed_run_goes_on(db: Database) -> None:
    plain_table(db, 12)
    connection = db.connect()
    done = f"SELECT count(*) FROM login WHERE {HASHED}"

    def call() -> None:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("CALL envelope.hash_passwords('login', 'pw', 1)")

    running = threading.Thread(target=call)
    running.start()
    wait_until(lambda: db.one(done) >= 2, 60, "two rows are hashed")
    db.sql("SELECT pg_terminate_backend(%s, 10000)", connection.info.backend_pid)
    running.join()
    assert 2 <= db.one(done) < 12
    hash_all(db, 100)
    assert db.one(done) == 12


def test_concurrent_writers_lose_nothing(db: Database) -> None:
    """A row that another transaction holds is hashed as that transaction leaves it."""
    plain_table(db, 3)
    writer = db.connect("owner")
    writer.execute("BEGIN")
    writer.execute("UPDATE login SET pw = 'changed', note = 'kept' WHERE id = 2")
    running = threading.Thread(target=hash_all, args=(db,))
    running.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    wait_until(lambda: db.one(waiting) == 1, 60, "the procedure waits for the row")
    assert db.one(f"SELECT count(*) FROM login WHERE {HASHED}") == 2
    writer.execute("COMMIT")
    running.join()
    assert db.sql("SELECT envelope.verify_password('changed', pw), note FROM login WHERE id = 2") == [(True, "kept")]


def test_the_owners_code_runs_as_the_owner(db: Database) -> None:
    plain_table(db, 1)
    owner = db.connect("owner")
    owner.execute("CREATE TABLE seen (who text)")
    owner.execute(
        "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NEW; END $$"
    )
    owner.execute("CREATE TRIGGER spy BEFORE UPDATE ON login FOR EACH ROW EXECUTE FUNCTION spy()")
    hash_all(db)
    assert db.sql("SELECT DISTINCT who FROM seen") == [("owner",)]


@pytest.mark.parametrize(
    ("setup", "call", "sqlstate"),
    [
        ("", "hash_passwords('login', 'nothing')", "42704"),
        ("", "hash_passwords('login', 'id')", "0A000"),
        ("", "hash_passwords('login', 'pw', 0)", "22023"),
        ("", "hash_passwords('nothing', 'pw')", "42P01"),
        ("", "hash_passwords(NULL, 'pw')", "22023"),
        ("CREATE VIEW v AS TABLE login", "hash_passwords('v', 'pw')", "0A000"),
        ("ALTER TABLE login ALTER pw TYPE varchar(20)", "hash_passwords('login', 'pw')", "22023"),
        (
            "ALTER TABLE login ENABLE ROW LEVEL SECURITY; ALTER TABLE login FORCE ROW LEVEL SECURITY",
            "hash_passwords('login', 'pw')",
            "0A000",
        ),
        ("BEGIN", "hash_passwords('login', 'pw')", "25001"),
    ],
)
def test_refusals(db: Database, setup: str, call: str, sqlstate: str) -> None:
    plain_table(db, 1)
    for statement in filter(None, setup.split("; ")):
        db.sql(statement)
    with pytest.raises(psycopg.Error) as caught:
        db.sql(f"CALL envelope.{call}")
    assert caught.value.sqlstate == sqlstate
    assert db.connect().execute("SELECT pw FROM login").fetchall() == [("secret1",)]


def test_a_failing_row_shows_no_password(db: Database) -> None:
    plain_table(db, 1)
    db.sql("ALTER TABLE login ADD CHECK (length(pw) < 20)")
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        hash_all(db)
    report = caught.value.diag
    assert report.message_detail is None
    assert "secret1" not in f"{report.message_primary}{report.message_hint}{report.context}"


def test_only_superusers_and_the_owner(db: Database, alice: psycopg.Connection[Any]) -> None:
    plain_table(db, 1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("CALL envelope.hash_passwords('login', 'pw')")
    db.sql("GRANT EXECUTE ON PROCEDURE envelope.hash_passwords TO alice, owner")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("CALL envelope.hash_passwords('login', 'pw')")
    db.connect("owner").execute("CALL envelope.hash_passwords('login', 'pw')")
    assert db.one(f"SELECT count(*) FROM login WHERE {HASHED}") == 1


def test_the_log_shows_no_password_that_a_client_did_not_write(db: Database) -> None:
    plain_table(db, 1)
    db.sql("UPDATE login SET pw = concat('only', '-', 'stored')")
    hash_all(db)
    assert db.one("SELECT envelope.verify_password(concat('only', '-', 'stored'), pw) FROM login") is True
    assert "only-stored" not in db.stack.cluster.log.read_text()
