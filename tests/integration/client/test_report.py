"""pg-envelope report: each fact true and false on a real server, the signature, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pypdf
import pytest
from cryptography.fernet import Fernet

from pg_envelope_client.evidence import facts
from stack.processes import run_as, wait_until
from stack.stack import Stack
from tests.fix_stack import Database, Fill
from tests.integration.client.test_commands import Command

Holds = bool | None
LEFT_ONE = """
UPDATE envelope_private.receipt SET statement = jsonb_set(statement::jsonb, '{statement,left}', '1')::text"""
LEGACY = Fernet.generate_key()
ADOPTED = [
    "CREATE TABLE legacy (id int PRIMARY KEY, note text)",
    f"INSERT INTO legacy VALUES (1, '{Fernet(LEGACY).encrypt(b'x').decode()}')",
    f"SELECT envelope.import_legacy_key('old', 'fernet', '{LEGACY.decode()}'::bytea)",
    "CALL envelope.adopt('legacy', 'note', 'fernet', key => 'old')",
]
SPENT = "SELECT setval(envelope_private.counter_name(field_uuid)::regclass, 2147483648) FROM envelope_private.field"
SECOND = "CREATE TABLE second (id int PRIMARY KEY, note text); INSERT INTO second VALUES (1, 'x')"
# By fact: statements, and whether the fact holds after them.
STEPS: dict[str, list[tuple[list[str], Holds]]] = {
    "plaintext": [
        ([], True),
        (
            [
                "DROP VIEW person",
                'DROP TRIGGER "~envelope_guard_write" ON person_encrypted',
                "ALTER TABLE person_encrypted ALTER email TYPE bytea",
            ],
            False,
        ),
    ],
    "rollouts": [([], True), (ADOPTED, False)],
    "protected_columns": [([], True), (["CALL envelope.unprotect('person')"], False)],
    "algorithms": [
        ([], True),
        (ADOPTED, False),
        (["CALL envelope.convert('legacy')"], True),
        ([SECOND, """CALL envelope.protect('second', '{"note": {"suite": 4, "bind": "column"}}')"""], True),
        (
            [
                "CALL envelope.unprotect('person')",
                "CALL envelope.unprotect('second')",
                "DROP TABLE legacy_encrypted CASCADE",
            ],
            None,
        ),
    ],
    "bound_to_rows": [
        ([], True),
        ([SECOND, """CALL envelope.protect('second', '{"note": {"bind": "column"}}')"""], False),
    ],
    "opens": [([], False), (["CALL envelope.verify()"], True)],
    "status_failed": [([], True), (["DELETE FROM envelope_private.capability"], False)],
    "status_warnings": [([], True), (["CREATE MATERIALIZED VIEW copied AS SELECT * FROM person"], False)],
    "schedules": [
        ([], True),
        (["SELECT envelope.set_schedule('dek', NULL, 'public.person')"], False),
        (["SELECT envelope.drop_schedule('dek', 'public.person')"], True),
        (["SELECT envelope.set_schedule('kek', NULL)"], False),
    ],
    "keks": [([], True)],
    "keys_overdue": [
        ([], True),
        (["UPDATE envelope_private.dek SET created_at = now() - interval '3 years'"], False),
    ],
    "key_age": [([], True), (["UPDATE envelope_private.dek SET created_at = now() - interval '3 years'"], False)],
    "receipts": [
        ([], None),
        (["SELECT envelope.rotate('person')", "CALL envelope.reencrypt('person')"], True),
        ([LEFT_ONE], False),
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
    "compromised": [([], True), (["CALL envelope.rotate_emergency('person', 'stolen')"], False)],
    "masks": [([], None), (["SELECT envelope.mask('person', 'email', 'public', 'null')"], None)],
    "copies": [([], True), (["CREATE MATERIALIZED VIEW copied AS SELECT * FROM person"], False)],
    "residue": [
        ([], True),
        ([SECOND, """CALL envelope.protect('second', '["note"]', online => true)"""], False),
        (["VACUUM FULL second_encrypted"], True),
    ],
    "log_values": [
        (["SET log_statement = 'none'"], True),
        (["SET log_statement = 'all'", "SET log_parameter_max_length = -1"], False),
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
    "audit_log": [([], True)],
    "ledger_up": [([], True)],
    "erasures_replayed": [([], True)],
    "keys_open": [
        ([SECOND, """CALL envelope.protect('second', '["note"]', store => 'catalog')"""], True),
        (["UPDATE envelope_private.dek SET wrapped = 'vault:v1:' || repeat('A', 80) WHERE wrapped IS NOT NULL"], False),
    ],
    "bypass": [
        ([], True),
        (
            [
                "CREATE ROLE over_all_of_report",
                "SELECT envelope_private.allow_owner('over_all_of_report'::regrole)",
                "ALTER ROLE over_all_of_report BYPASSRLS",
            ],
            False,
        ),
        (["DROP OWNED BY over_all_of_report", "DROP ROLE over_all_of_report"], True),
    ],
    "message_budget": [
        ([], True),
        (
            [SPENT],
            False,
        ),
    ],
}


# Only a person can judge these.
JUDGED = {"readers", "superusers", "masks", "destroyed_keys"}
# A device with dm-crypt needs a kernel of one's own, and the broker refuses addresses without TLS but on loopback.
# These facts are true or unknown, and never false.
NEVER_FALSE = {"disk_encryption", "tls_kms"}
TESTS = Path(__file__).parents[2]
# By fact: the tests that make it true and false. A check of status() is in the place of its fact.
ELSEWHERE = {
    "required_columns": (__file__, "test_required_columns_come_from_the_file"),
    "keks": (__file__, "test_a_sealed_kms_shows"),
    "tls_server": (__file__, "test_tls_of_the_server_shows"),
    "tls_forced": (__file__, "test_facts_of_pg_hba_conf"),
    "weak_logins": (__file__, "test_facts_of_pg_hba_conf"),
    "tls_clients": (__file__, "test_facts_that_a_restart_changes"),
    "checksums": (__file__, "test_facts_that_a_restart_changes"),
    "ledger_verified": ("unit/client/test_evidence.py", "test_the_ledger_holds_only_against_an_anchor"),
    "fips": ("integration/fips/test_fips.py", "test_values_are_sealed_opened_searched_and_signed"),
    "ledger_anchored": (__file__, "test_an_anchor_of_the_ledger_shows"),
    "audit_log": ("integration/operations/test_unreadable.py", "test_a_full_disk_under_the_audit_log"),
    "ledger_up": ("integration/ledger/test_fail_closed.py", "test_status_tells_of_a_ledger_that_cannot_be_used"),
    "erasures_replayed": ("integration/erasure/test_replay.py", "test_a_restored_backup_stays_dead"),
    "kek_age": ("integration/client/test_kek_age.py", "test_the_age_of_a_kek_shows"),
}


LOOPBACK = ("127.0.0.1/32", "127.0.0.0/8", "127.0.0.1 255.255.255.255", "::1/128", "localhost")
# PostgreSQL keeps an address as it is written, and the mask apart.
NOT_LOOPBACK = ("127.0.0.1/0", "127.0.0.1/7", "127.0.0.1 0.0.0.0", "::1/0", "::1/127", "all", "samenet", "db.example")


Filled = Callable[[Fill], Database]
# What makes, destroys or replaces a key. A copy of a database has the keys of all other copies, so it may not do that.
OF_KEYS = ("protect(", "adopt(", "convert(", "rotate", "shred(")


def with_person(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'planted@example.org')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")


@pytest.fixture
def db(filled: Filled) -> Database:
    """A database with a protected table."""
    return filled(with_person)


@pytest.fixture
def command(stack: Stack, db: Database) -> Command:
    return Command(stack, db.name)


@pytest.fixture
def own(make_db: Callable[[], Database]) -> Database:
    """Such a database with keys of its own."""
    made = make_db()
    with_person(made)
    return made


def seen(db: Database, name: str) -> tuple[str, Holds]:
    ((value, holds),) = db.admin.execute(facts.statement_of(facts.declared()[name])).fetchall()  # type: ignore[call-overload]
    return value, holds


@pytest.mark.parametrize("name", STEPS)
def test_a_fact_holds_and_does_not_hold(request: pytest.FixtureRequest, name: str) -> None:
    all_of_them = " ".join(statement for statements, _ in STEPS[name] for statement in statements)
    of_keys = any(word in all_of_them for word in OF_KEYS)
    db: Database = request.getfixturevalue("own" if of_keys else "db")
    for statements, holds in STEPS[name]:
        for statement in statements:
            db.admin.execute(statement)  # type: ignore[call-overload]
        assert seen(db, name)[1] is holds, statements


def test_each_fact_is_true_once_and_false_once() -> None:
    """A new fact needs statements after which it holds, and others after which it does not."""
    wanted: dict[str, set[Holds]] = {key: {True, False} for key in facts.declared()}
    wanted |= {key: set() for key in JUDGED}
    for name in wanted.keys() - ELSEWHERE.keys() - NEVER_FALSE:
        assert wanted[name] <= {holds for _, holds in STEPS.get(name, [])}, name


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_tested_elsewhere_is_tested_there(name: str) -> None:
    file, test = ELSEWHERE[name]
    source = (TESTS / file).read_text()
    body = source.partition(f"def {test}(")[2].partition("\ndef ")[0]
    status = facts.declared()[name].get("status", name)
    assert body, test
    assert any(word in body for word in (status, "STATUS", "_verified", "told(")), test
    if "status" in facts.declared()[name]:
        # The check's states are the fact's: that it holds is seen here or there, and that it does not hold there.
        assert '"ok"' in body or STEPS[name] == [([], True)]
        assert '"failed"' in body or '"warning"' in body


def test_each_fact_of_status_is_a_check(command: Command, db: Database) -> None:
    checks = {name for (name,) in db.sql("SELECT check_name FROM envelope.status()")}
    assert {given["status"] for given in facts.declared().values() if "status" in given} <= checks


def test_facts_of_pg_hba_conf(command: Command, db: Database) -> None:
    file = Path(db.one("SHOW hba_file"))
    kept = file.read_text()
    try:
        file.write_text("local all all peer\nhostssl all all 10.0.0.0/8 scram-sha-256\n")
        assert (seen(db, "tls_forced"), seen(db, "weak_logins")) == (("none", True), ("none", True))
        for kind in ("host", "hostnossl", "hostnogssenc"):
            file.write_text(f"local all all peer\n{kind} all all 10.0.0.0/8 scram-sha-256\n")
            assert seen(db, "tls_forced") == ("line 2", False), kind
            assert "such clients in: 2;" in db.one("SELECT detail FROM envelope.status() WHERE check_name = 'tls'")
        for place in LOOPBACK:
            file.write_text(f"local all all peer\nhost all all {place} scram-sha-256\n")
            assert seen(db, "tls_forced") == ("none", True), place
        for place in NOT_LOOPBACK:
            file.write_text(f"local all all peer\nhost all all {place} scram-sha-256\n")
            assert seen(db, "tls_forced") == ("line 2", False), place
            told = db.one("SELECT detail FROM envelope.status() WHERE check_name = 'tls'")
            assert "such clients in: 2;" in told, place
        file.write_text("local all all trust\nhost all all 10.0.0.0/8 md5\n")
        assert seen(db, "tls_forced") == ("line 2", False)
        assert seen(db, "weak_logins") == ("line 1: trust, line 2: md5", False)
    finally:
        file.write_text(kept)


def test_facts_that_depend_on_the_machine(command: Command, db: Database) -> None:
    assert seen(db, "fips")[1] is False
    assert seen(db, "disk_encryption")[1] is not False


def test_facts_that_a_restart_changes(stack: Stack) -> None:
    """Checksums are switched while the server is down. A client of the network comes from this machine's address."""
    cluster = stack.cluster
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    address = [one for one in found if ":" not in one][:1]
    hba, settings = cluster.directory / "pg_hba.conf", cluster.settings
    kept = hba.read_text()
    before = restarted_facts(stack, address)
    cluster.stop()
    run_as(cluster.account, [cluster.bindir / "pg_checksums", CHECKSUMS[before["checksums"]], "-D", cluster.data])
    try:
        hba.write_text(kept + "".join(f"host all all {one}/32 trust\n" for one in address))
        cluster.settings = {**settings, "listen_addresses": "*"}
        cluster.start()
        after = restarted_facts(stack, address)
    finally:
        cluster.stop()
        run_as(
            cluster.account, [cluster.bindir / "pg_checksums", CHECKSUMS[not before["checksums"]], "-D", cluster.data]
        )
        hba.write_text(kept)
        cluster.settings = settings
        cluster.start()
    assert {before["checksums"], after["checksums"]} == {True, False}
    for name in ("tls_clients", "status"):
        assert (before[name], after[name]) == (True, not address), name


STATUS_OF_TLS = """
SELECT detail, state = 'ok' AND hint IS NULL FROM envelope.status() WHERE check_name = 'tls'"""
CHECKSUMS = {True: "--disable", False: "--enable"}


def restarted_facts(stack: Stack, address: list[str]) -> dict[str, bool]:
    listens = stack.cluster.settings.get("listen_addresses") == "*"
    host = {"host": address[0]} if listens and address else {}
    with stack.connect(**host) as client, stack.connect() as admin:
        assert client.execute("SELECT 1").fetchone() == (1,)
        declared = facts.declared()
        asked = {name: facts.statement_of(declared[name]) for name in ("checksums", "tls_clients")}
        asked["status"] = STATUS_OF_TLS
        return {name: admin.execute(text).fetchone()[1] for name, text in asked.items()}  # type: ignore[index, call-overload]


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


def test_tls_to_the_kms_shows(command: Command, db: Database) -> None:
    assert seen(db, "tls_kms") == ("default: TLSv1.3", True)


@pytest.mark.parametrize(
    ("told", "holds"),
    [
        ("a: TLSv1.2, b: no network", True),
        ("a: TLSv1.3", True),
        ("a: TLSv1.3, b: not seen", None),
        ("a: no TLS, on loopback", None),
        ("a: TLSv1, b: TLSv1.3", None),
        ("a: TLSv1.3, b: TLSv1.1", None),
    ],
)
def test_what_the_broker_does_not_see_is_unknown(db: Database, told: str, holds: Holds) -> None:
    source = f"(SELECT '{told}' AS detail, 'tls to the KMS' AS check_name) AS found"
    asked = facts.statement_of(facts.declared()["tls_kms"]).replace("envelope.status()", source)
    assert db.sql(asked) == [(told, holds)]


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


def test_readers_are_those_who_see_the_clear_value(command: Command, db: Database) -> None:
    """A mask takes a role off the list. A view, and a role that can become another, come onto it."""
    assert seen(db, "readers") == ("none", None)
    db.sql("GRANT SELECT ON person TO alice")
    db.sql("SELECT envelope.mask('person', 'email', 'public', 'null')")
    assert db.sql("SELECT email FROM person", user="alice") == [(None,)]
    assert seen(db, "readers") == ("none", None)
    db.sql("CREATE MATERIALIZED VIEW copied AS SELECT email FROM person")
    db.sql("GRANT SELECT ON copied TO alice")
    assert seen(db, "readers") == ("alice", None)
    db.sql("DROP MATERIALIZED VIEW copied")
    db.sql("SELECT envelope.unmask('person', 'email', 'public')")
    db.sql("REVOKE SELECT ON person FROM alice")
    assert seen(db, "readers") == ("none", None)
    db.sql("CREATE ROLE group_of_readers; GRANT SELECT (email) ON person TO group_of_readers")
    db.sql("CREATE ROLE becomes LOGIN NOINHERIT IN ROLE group_of_readers")
    try:
        assert seen(db, "readers") == ("becomes", None)
    finally:
        db.sql("DROP OWNED BY group_of_readers")
        db.sql("DROP ROLE becomes, group_of_readers")


def test_an_anchor_of_the_ledger_shows(command: Command, db: Database, stack: Stack) -> None:
    name = "ledger_anchored"
    wait_until(lambda: "checkpoint: 2" in seen(db, name)[0], 30, "the first checkpoint")
    assert seen(db, name) == (seen(db, name)[0], False)
    assert seen(db, name)[0].startswith("anchor: none; last checkpoint: ")
    kept = stack.broker.config_file.read_bytes()
    anchor = stack.broker.erasures.with_name("anchor-of-the-report")
    try:
        stack.broker.configure({"broker": {"reads_anchor": str(anchor)}})
        stack.broker.restart()
        wait_until(lambda: seen(db, name)[1], 30, "an anchored checkpoint")
        assert seen(db, name)[0].startswith("anchor: file; last checkpoint: ")
        assert anchor.read_bytes()
        assert str(anchor) not in str(db.sql("SELECT * FROM envelope.status()"))
    finally:
        stack.broker.stop()
        stack.broker.config_file.write_bytes(kept)
        stack.broker.start()
        anchor.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("told", "holds"),
    [
        ("anchor: kv; last checkpoint: {now}", True),
        ("anchor: syslog; last checkpoint: {now}", True),
        ("anchor: none; last checkpoint: {now}", False),
        ("anchor: unknown; last checkpoint: {now}", False),
        ("anchor: file; last checkpoint: none", False),
        ("anchor: file; last checkpoint: unknown", False),
        ("anchor: file; last checkpoint: 2026-01-01T00:00:00+00:00", False),
    ],
)
def test_an_old_checkpoint_is_no_anchored_ledger(db: Database, told: str, holds: Holds) -> None:
    told = told.format(now=datetime.now(UTC).isoformat(timespec="seconds"))
    source = f"(SELECT '{told}' AS detail, 'ledger anchor' AS check_name) AS found"
    asked = facts.statement_of(facts.declared()["ledger_anchored"]).replace("envelope.status()", source)
    assert db.sql(asked.replace("%", "%%")) == [(told, holds)]


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


class CommandWithExtras(Command):
    """The command of this project's own venv, which has the extra pdf. The server's need not have it."""

    @property
    def program(self) -> str:
        return str(Path(sys.executable).with_name("pg-envelope"))


def test_a_pdf_file_carries_the_signed_report(stack: Stack, own: Database, tmp_path: Path) -> None:
    db, command = own, CommandWithExtras(stack, own.name)
    db.sql('CREATE TABLE "таблица" (id int PRIMARY KEY, email text)')
    db.sql("""CALL envelope.protect('"таблица"', '{"email": {"bind": "column"}}')""")
    db.sql("GRANT SELECT (email) ON person TO PUBLIC")
    file, attached = tmp_path / "report.pdf", tmp_path / "report.json"
    command.done("report", "--format", "pdf", "--out", file)
    reader = pypdf.PdfReader(file)
    attached.write_bytes(reader.attachments["report.json"][0])
    told = json.loads(command.done("verify-receipt", attached).out)["statement"]["report"]
    text = "".join("".join(page.extract_text().split()) for page in reader.pages)
    assert all(f"{name}:" in text for name in told["facts"])
    assert all("".join(f"{clause['framework']}{clause['id']}:".split()) in text for clause in told["clauses"])
    assert "value:public.person.email" in text
    assert "".join(f"\\u{{{ord(letter):x}}}" for letter in "таблица") in text
    assert "".join(json.loads(attached.read_text())["signature"].split()) in text
    assert command.run("report", "--font", file, "--out", tmp_path / "other").code == 2
    assert "is no font" in command.run("report", "--format", "pdf", "--font", attached, "--out", tmp_path / "o").err


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


def test_required_columns_come_from_the_file(stack: Stack, own: Database, tmp_path: Path) -> None:
    command = Command(stack, own.name)
    file = tmp_path / "envelope.toml"
    file.write_text('[[require]]\ncolumn = "public.person.email"\n')
    assert told(command, file) == ("none of 1", True)
    own.sql("CALL envelope.unprotect('person')")
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
