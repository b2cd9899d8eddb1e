"""pg-envelope report: each fact true and false on a real server, the signature, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from pg_envelope_client.evidence import facts
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command

Holds = bool | None
SECOND = "CREATE TABLE second (id int PRIMARY KEY, note text); INSERT INTO second VALUES (1, 'x')"
# By fact: statements, and whether the fact holds after them.
STEPS: dict[str, list[tuple[list[str], Holds]]] = {
    "protected_columns": [([], True), (["CALL envelope.unprotect('person')"], False)],
    "algorithms": [([], True), (["CALL envelope.unprotect('person')"], None)],
    "bound_to_rows": [
        ([], True),
        ([SECOND, """CALL envelope.protect('second', '{"note": {"bind": "column"}}')"""], False),
    ],
    "opens": [([], False), (["CALL envelope.verify()"], True)],
    "status_failed": [([], True), (["DELETE FROM envelope_private.capability"], False)],
    "status_warnings": [([], True), (["CREATE MATERIALIZED VIEW copied AS SELECT * FROM person"], False)],
    "schedules": [([], True)],
    "keys_overdue": [
        ([], True),
        (["UPDATE envelope_private.dek SET created_at = now() - interval '3 years'"], False),
    ],
    "key_age": [([], True), (["UPDATE envelope_private.dek SET created_at = now() - interval '3 years'"], False)],
    "receipts": [
        ([], None),
        (["SELECT envelope.rotate('person')", "CALL envelope.reencrypt('person')"], True),
    ],
    "readers": [([], None)],
    "readers_public": [([], True), (["GRANT SELECT (email) ON person TO PUBLIC"], False)],
    "superusers": [([], None)],
    "audited_columns": [([], False), (["CALL envelope.set_audit('person', 'email', 'statement')"], True)],
    "destroyed_keys": [([], None)],
    "backups": [([], False), (["SELECT envelope.register_backup('nightly')"], True)],
    "revivable": [
        ([], True),
        (
            [
                SECOND,
                """CALL envelope.protect('second', '["note"]', store => 'catalog')""",
                "SELECT envelope.register_backup('nightly')",
                "CALL envelope.shred('second', NULL, 'asked for')",
            ],
            False,
        ),
    ],
    "log_statements": [(["SET log_statement = 'none'"], True), (["SET log_min_duration_statement = 100"], False)],
    "log_errors": [
        (["SET log_min_error_statement = 'panic'"], True),
        (["SET log_min_error_statement = 'error'"], False),
    ],
    "password_hashes": [
        (["SET password_encryption = 'scram-sha-256'"], True),
        (["SET password_encryption = 'md5'"], False),
    ],
    "tls_clients": [([], True)],
}


@pytest.fixture
def command(stack: Stack, db: Database) -> Command:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'planted@example.org')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    return Command(stack, db.name)


def seen(db: Database, name: str) -> tuple[str, Holds]:
    ((value, holds),) = db.admin.execute(facts.statement_of(facts.declared()[name])).fetchall()  # type: ignore[call-overload]
    return value, holds


@pytest.mark.parametrize("name", STEPS)
def test_a_fact_holds_and_does_not_hold(command: Command, db: Database, name: str) -> None:
    for statements, holds in STEPS[name]:
        for statement in statements:
            db.admin.execute(statement)  # type: ignore[call-overload]
        assert seen(db, name)[1] is holds, statements


def test_each_fact_of_status_is_a_check(command: Command, db: Database) -> None:
    checks = {name for (name,) in db.sql("SELECT check_name FROM envelope.status()")}
    assert {given["status"] for given in facts.declared().values() if "status" in given} <= checks


def test_facts_of_pg_hba_conf(command: Command, db: Database) -> None:
    file = Path(db.one("SHOW hba_file"))
    kept = file.read_text()
    try:
        file.write_text("local all all peer\nhostssl all all 10.0.0.0/8 scram-sha-256\n")
        assert (seen(db, "tls_forced"), seen(db, "weak_logins")) == (("none", True), ("none", True))
        file.write_text("local all all trust\nhost all all 10.0.0.0/8 md5\n")
        assert seen(db, "tls_forced") == ("line 2", False)
        assert seen(db, "weak_logins") == ("line 1: trust, line 2: md5", False)
    finally:
        file.write_text(kept)


def test_facts_that_depend_on_the_machine(command: Command, db: Database) -> None:
    assert seen(db, "checksums") == (db.one("SHOW data_checksums"), db.one("SHOW data_checksums") == "on")
    assert seen(db, "fips")[1] is False
    assert seen(db, "disk_encryption")[1] is not False


def switched(db: Database, ssl: str) -> None:
    """The server has the setting, also in this session."""
    db.sql(f"ALTER SYSTEM SET ssl = {ssl}")
    db.sql("SELECT pg_reload_conf()")
    wait_until(lambda: db.one("SHOW ssl") == ssl, 30, f"ssl is {ssl}")


def test_tls_of_the_server_shows(command: Command, db: Database) -> None:
    data = Path(db.one("SHOW data_directory"))
    files = [data / "server.key", data / "server.crt"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=here", "-days", "2"]
    subprocess.run([*made, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    for file in files:
        file.chmod(0o600)
        os.chown(file, data.stat().st_uid, data.stat().st_gid)
    assert seen(db, "tls_server")[1] is False
    try:
        switched(db, "on")
        assert seen(db, "tls_server") == ("ssl on, from TLSv1.2", True)
    finally:
        switched(db, "off")
        for file in files:
            file.unlink()


def test_a_sealed_kms_shows(command: Command, db: Database, stack: Stack) -> None:
    assert seen(db, "keks")[1] is True
    stack.openbao.seal()
    try:
        assert seen(db, "keks")[1] is False
    finally:
        stack.openbao.unseal()


def test_readers_are_named(command: Command, db: Database) -> None:
    db.sql("GRANT SELECT (email) ON person TO alice")
    assert seen(db, "readers") == ("alice", None)


def test_a_report_is_signed_and_a_change_is_found(command: Command, db: Database, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    command.done("report", "--framework", "gdpr", "--out", file)
    assert file.read_text().count("planted") == 0
    told = json.loads(command.done("verify-receipt", file).out)
    assert told["statement"]["what"] == "report"
    assert told["statement"]["report"]["facts"]["protected_columns"]["holds"] is True
    assert told["statement"]["report"]["facts"]["masks"]["holds"] is None
    assert {clause["framework"] for clause in told["statement"]["report"]["clauses"]} == {"GDPR"}
    held = json.loads(file.read_text())
    file.write_text(json.dumps({**held, "statement": held["statement"].replace('"holds":false', '"holds":true', 1)}))
    assert command.run("verify-receipt", file).code == 1


def test_a_role_that_sees_less_reports_less(command: Command, db: Database, stack: Stack) -> None:
    """What cannot be seen is unknown. It does not pass for a fact that holds."""
    db.sql("CREATE ROLE looker LOGIN")
    db.sql("GRANT pg_read_all_data TO looker")
    try:
        ended = Command(stack, db.name, "looker").done("report", "--unsigned", "--json")
        refused = Command(stack, db.name, "looker").run("report")
    finally:
        db.sql("DROP ROLE looker")
    found = json.loads(ended.out)["facts"]
    assert found["protected_columns"]["holds"] is True
    for name in ("plaintext", "keks", "status_failed", "tls_forced"):
        assert (found[name]["value"], found[name]["holds"]) == ("not seen: SQLSTATE 42501", None)
    assert found["tls_clients"]["holds"] is None, "the server hides other sessions from this role"
    assert "permission denied for function sign_report" in refused.err


def test_two_reports_are_compared(command: Command, db: Database, tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    db.sql("CALL envelope.verify()")
    command.done("report", "--out", first)
    assert command.run("report", "--out", first).code == 1
    db.sql("GRANT SELECT ON person TO PUBLIC")
    now = json.loads(command.done("report", "--since", first, "--json").out)
    changed = {row["what"]: row["now"] for row in now["changes"]}
    assert changed["readers_public"] == "does not hold: public.person.email"
    assert changed["GDPR Art. 5(1)(f)"] == "disproved"
    assert command.run("report", "--framework", "gdpr", "--strict").code == 1


def test_required_columns_come_from_the_file(command: Command, db: Database, tmp_path: Path) -> None:
    file = tmp_path / "envelope.toml"
    file.write_text('[[require]]\ncolumn = "public.person.email"\n')
    assert told(command, file) == ("none of 1", True)
    db.sql("CALL envelope.unprotect('person')")
    assert told(command, file) == ("public.person.email", False)


def told(command: Command, file: Path) -> tuple[str, Holds]:
    fact = json.loads(command.done("report", "--require", file, "--unsigned", "--json").out)["facts"][
        "required_columns"
    ]
    return fact["value"], fact["holds"]


def test_a_hostile_name_is_text_on_the_page(command: Command, db: Database, tmp_path: Path) -> None:
    db.sql('ALTER TABLE person RENAME TO "<script>alert(1)</script>"')
    db.sql('GRANT SELECT ON "<script>alert(1)</script>" TO PUBLIC')
    file = tmp_path / "report.html"
    command.done("report", "--format", "html", "--out", file)
    assert "<script" not in file.read_text()
    assert "&lt;script&gt;alert(1)" in file.read_text()


def test_without_the_broker_a_report_is_made_only_unsigned(command: Command, stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    stack.broker.stop()
    try:
        assert "broker" in command.run("report", "--out", file).err
        assert not file.exists()
        command.done("report", "--unsigned", "--out", file)
    finally:
        stack.broker.start()
    report = json.loads(json.loads(file.read_text())["statement"])["statement"]["report"]
    assert report["facts"]["status_failed"]["holds"] is False
    assert command.run("verify-receipt", file).code == 1


def test_only_who_was_granted_signs_and_signs_reports_only(command: Command, db: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT * FROM envelope.sign_report('{}')", user="alice")
    ((text, _, _),) = db.sql("""SELECT * FROM envelope.sign_report('{"what": "reencrypt"}')""")
    assert json.loads(text)["statement"] == {"what": "report", "report": {"what": "reencrypt"}}
    for content in (None, "[]", "7", '"x"', "null"):
        with pytest.raises(psycopg.Error) as refused:
            db.sql("SELECT * FROM envelope.sign_report(%s)", content)
        assert refused.value.sqlstate == "22023"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_prints_the_page_to_pdf(command: Command, tmp_path: Path) -> None:
    file, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    command.done("report", "--format", "html", "--out", file)
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run(["chromium", *quiet, f"--print-to-pdf={printed}", file.as_uri()], check=True, capture_output=True)
    assert printed.read_bytes().startswith(b"%PDF")
