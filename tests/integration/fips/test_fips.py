"""`fips = true` on a real server and a real broker: what works, what is refused, and what no provider means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pg_envelope_client.evidence import facts
from stack.processes import StackError, folder, run_as
from stack.stack import Stack
from tests.fix_fips import provider
from tests.fix_stack import Database

Make = Callable[[], Database]
ASKED = {"PG_ENVELOPE_FIPS": "true"}
STATUS = "SELECT state, detail FROM envelope.status() WHERE check_name = 'fips'"


def restarted(stack: Stack, environment: dict[str, str]) -> None:
    """The server runs with these variables beside its usual ones."""
    usual = {name: text for name, text in stack.cluster.environment.items() if "FIPS" not in name}
    stack.cluster.stop()
    stack.cluster.environment = usual | environment
    stack.cluster.start()


@pytest.fixture(scope="module")
def config(stack: Stack) -> Iterator[Path]:
    """The provider's file. Afterwards server and broker are as they were."""
    made = provider(folder(stack.home / "fips", 0o755))
    before = stack.broker.config_file.read_text()
    yield made
    restarted(stack, {})
    stack.broker.config_file.write_text(before)
    stack.broker.restart()


@pytest.fixture
def in_fips(config: Path, stack: Stack) -> Path:
    asked = {**ASKED, "PG_ENVELOPE_FIPS_CONFIG": str(config)}
    if stack.cluster.environment.get("PG_ENVELOPE_FIPS_CONFIG") != str(config):
        stack.broker.configure({"broker": {"fips": True, "fips_config": str(config)}})
        stack.broker.restart()
        restarted(stack, asked)
    return config


def protected(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text, note text)")
    db.sql("INSERT INTO person VALUES (1, 'a@example.org', 'n')")
    db.sql("""CALL envelope.protect('person', '{"email": {"search": "exact"}, "note": {"suite": 2}}')""")


def test_values_are_sealed_opened_searched_and_signed(in_fips: Path, db: Database) -> None:
    protected(db)
    db.sql("INSERT INTO person VALUES (2, 'b@example.org', 'm')")
    found = db.connect().execute("SELECT id, note FROM person WHERE email_search = 'b@example.org'").fetchall()
    assert found == [(2, "m")]
    db.sql("SELECT envelope.rotate('person')")
    db.sql("CALL envelope.reencrypt('person')")
    assert db.one("SELECT count(*) FROM envelope.receipts WHERE signature IS NOT NULL") == 1
    state, detail = db.sql(STATUS)[0]
    assert (state, detail.split("; ")[:2]) == ("ok", ["sessions: active", "broker: active"])
    assert db.sql(facts.statement_of(facts.declared()["fips"])) == [(detail, True)]


@pytest.mark.parametrize("suite", [3, 4, 5])
def test_other_suites_are_refused_by_name(in_fips: Path, db: Database, suite: int) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    with pytest.raises(
        psycopg.errors.FeatureNotSupported, match=f"suite {suite} .* FIPS provider is active"
    ) as refused:
        db.sql(f"""CALL envelope.protect('person', '{{"email": {{"suite": {suite}}}}}')""")
    assert "suite 1 or 2" in str(refused.value.diag.message_hint)


def test_argon2id_is_refused_by_name(in_fips: Path, db: Database) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="Argon2id is not available") as refused:
        db.sql("SELECT envelope.hash_password('planted', 'argon2id')")
    assert "planted" not in str(refused.value)
    assert db.one("SELECT envelope.hash_password('x')").startswith("$2")


def test_values_of_other_suites_are_refused_and_not_lost(in_fips: Path, stack: Stack, make_db: Make) -> None:
    restarted(stack, {})
    db = make_db()
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'a@example.org')")
    db.sql("""CALL envelope.protect('person', '{"email": {"suite": 3}}')""")
    restarted(stack, {**ASKED, "PG_ENVELOPE_FIPS_CONFIG": str(in_fips)})
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="suite 3"):
        db.connect().execute("SELECT email FROM person")
    restarted(stack, {})
    assert db.connect().execute("SELECT email FROM person").fetchone() == ("a@example.org",)
    state, detail = db.connect().execute(STATUS).fetchall()[0]
    assert (state, detail.split("; ")[:2]) == ("warning", ["sessions: not active", "broker: active"])


def test_without_the_provider_a_session_gives_and_takes_nothing(in_fips: Path, stack: Stack, make_db: Make) -> None:
    db = make_db()
    protected(db)
    restarted(stack, {**ASKED, "PG_ENVELOPE_FIPS_CONFIG": "/nonexistent/fips.cnf"})
    with db.connect() as session:
        for statement in ("SELECT email FROM person", "INSERT INTO person VALUES (3, 'c', 'c')", STATUS) * 2:
            with pytest.raises(psycopg.Error, match="the FIPS provider cannot be loaded") as refused:
                session.execute(statement)
            assert refused.value.sqlstate == "55000"
            assert "docs/fips.md" in str(refused.value.diag.message_hint)


def test_a_setting_that_is_neither_true_nor_false_is_refused(in_fips: Path, stack: Stack, make_db: Make) -> None:
    db = make_db()
    restarted(stack, {"PG_ENVELOPE_FIPS": "on"})
    with pytest.raises(psycopg.Error, match="fips must be true or false"):
        db.connect().execute(STATUS)


def test_without_the_provider_the_broker_does_not_start(config: Path, stack: Stack) -> None:
    stack.broker.stop()
    stack.broker.configure({"broker": {"fips": True, "fips_config": "/nonexistent/fips.cnf"}})
    start = [*stack.broker.command(), "--config", stack.broker.config_file]
    for command in (start, [*start, "--check"]):
        with pytest.raises(StackError, match="the FIPS provider cannot be loaded"):
            run_as(stack.broker.account, command)
    stack.broker.configure({"broker": {"fips": False, "fips_config": str(config)}})
    stack.broker.start()
