"""pg-envelope dashboard: what its page shows, whom it refuses, and that a browser runs nothing of it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pg_envelope.broker.ledger.read_ledger import ReadLedger
from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command

Serve = Callable[..., urllib.parse.SplitResult]
ROLE = "observer"
GRANTS = (
    f"CREATE ROLE {ROLE} LOGIN",
    f"GRANT EXECUTE ON FUNCTION envelope.status(), envelope.shred_audit() TO {ROLE}",
    f"GRANT SELECT ON envelope.columns, envelope.due, envelope.progress TO {ROLE}",
    f"GRANT SELECT (name, relation, version, store, state, state_since) ON envelope.keys TO {ROLE}",
    "DO $$ BEGIN IF to_regclass('envelope.masks') IS NOT NULL THEN"
    f" GRANT SELECT ON envelope.masks TO {ROLE}; END IF; END $$",
)


@pytest.fixture
def observer(db: Database) -> Iterator[str]:
    """The role that docs/dashboard.md makes."""
    for statement in GRANTS:
        db.sql(statement)
    yield ROLE
    db.sql(f"DROP OWNED BY {ROLE}")
    db.sql(f"DROP ROLE {ROLE}")


@contextmanager
def serving(command: Command, *words: object) -> Iterator[urllib.parse.SplitResult]:
    """The command in the background, and the address of its page."""
    line = [command.program, "dashboard", "--json", *map(str, words)]
    process = subprocess.Popen(line, env=command.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        told = ""
        while "}" not in told:
            read = process.stdout.readline()
            assert read, process.communicate()[1]
            told += read
        yield urllib.parse.urlsplit(json.loads(told)["url"])
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture
def protected(db: Database) -> Database:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO person VALUES (1, 'planted@example.org')")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    db.sql("GRANT SELECT ON person TO alice")
    return db


def ask(
    url: urllib.parse.SplitResult, path: str | None = None, method: str = "GET", **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    connection.request(method, url.path if path is None else path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def test_a_role_that_only_reads_sees_the_page(protected: Database, stack: Stack, observer: str) -> None:
    with serving(Command(stack, protected.name, observer)) as url:
        status, text, headers = ask(url)
    assert status == 200
    assert "cannot see it" not in text
    assert "kek default" in text
    assert "<td>public.person</td><td>email</td>" in text
    assert "<td>alice</td><td>public.person</td>" in text
    assert "A superuser sees masks and indirect paths by pg-envelope access." in text
    assert "planted" not in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script|<form|<img|\son\w+=", text)


def section(text: str, title: str) -> str:
    """The HTML of one section."""
    return text[text.index(f"<h2>{title}</h2>") :].partition("</h2>")[2].partition("<h2>")[0]


def test_each_section_shows_what_there_is(protected: Database, stack: Stack, observer: str) -> None:
    db = protected
    command = Command(stack, db.name, observer)
    before = command.done("dashboard", "--once").out
    assert "No role sees a mask." in section(before, "Masks")
    assert "No job has run." in section(before, "Jobs")
    assert "No key was destroyed." in section(before, "Erased and destroyed keys")
    assert "None of the registered backups could." in section(before, BACKUPS)
    db.sql("SELECT envelope.mask('person', 'email', 'public', 'null')")
    db.sql("SELECT envelope.rotate('person')")
    db.sql("CALL envelope.reencrypt('person')")
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, who text NOT NULL, note text)")
    db.sql("INSERT INTO visit VALUES (1, 'planted-subject', 'planted'), (2, 'b', 'y')")
    db.sql(
        "CALL envelope.protect('visit', '[\"note\"]', store => 'catalog', scope => 'subject', scope_column => 'who')"
    )
    db.sql("SELECT envelope.register_backup('nightly')")
    db.sql("CALL envelope.shred('visit', 'planted-subject', 'planted reason')")
    db.sql("SELECT envelope.set_schedule('dek', '1 second')")
    wait_until(lambda: db.one("SELECT bool_or(due_at < now()) FROM envelope.due"), 30, "a key that is due")
    after = command.done("dashboard", "--once").out
    assert "<td>public.person</td><td>email</td><td>public</td><td>null</td>" in section(after, "Masks")
    assert re.search(r"<td>public\.person</td><td>reencrypt</td><td>done</td>", section(after, "Jobs"))
    assert re.search(
        r"<td>public\.visit</td><td>1</td><td>catalog</td><td>20..-", section(after, "Erased and destroyed keys")
    )
    assert re.search(r"<td>nightly</td><td>20..-..-..</td><td></td><td>1</td>", section(after, BACKUPS))
    due = section(after, "Keys by the time until they are due")
    assert re.search(r'<td class="failed">failed</td><td>dek</td><td>public\.person</td>', due)
    assert "planted" not in after


BACKUPS = "Backups that could bring back what was erased"


def test_what_the_role_may_not_see_is_named(protected: Database, stack: Stack) -> None:
    with serving(Command(stack, protected.name, "alice")) as url:
        status, text, _ = ask(url)
    assert status == 200
    assert text.count("This role cannot see it: SQLSTATE 42501") >= 5


def test_who_read_what_comes_from_the_ledger(protected: Database, stack: Stack, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ledger = ReadLedger(tmp_path / "reads.jsonl", "test")
    event = {"event": "read", "timestamp": datetime.now(UTC).isoformat(), "table": "public.person", "column": "email"}
    ledger.add([{**event, "user": "<b>till</b>", "ring": "a", "seq": 1, "count": 3}])
    ledger.add([{"event": "count", "ring": "a", "seq": 1, "count": 42}])
    ledger.add([{**event, "timestamp": "2001", "user": "old", "ring": "b", "seq": 1, "count": 7}])
    ledger.close()
    with serving(Command(stack, protected.name), "--ledger", tmp_path / "reads.jsonl") as url:
        _, text, _ = ask(url)
    assert "<td>&lt;b&gt;till&lt;/b&gt;</td><td>public.person.email</td><td>42</td><td>42</td><td>42</td>" in text
    assert "<td>old</td>" not in text


def test_alarms_and_refusals_come_from_ledger_and_audit_log(protected: Database, stack: Stack, tmp_path: Path) -> None:
    now = datetime.now(UTC).isoformat()
    canary = {"event": "canary", "user": "till", "role": "shop", "ip": "10.0.0.7", "columns": ["public.person.email"]}
    limit = {"event": "limit", "user": "<i>ann</i>", "field": "61d0", "then": "refuse"}
    old = {**canary, "timestamp": "2001-01-01T00:00:00+00:00", "user": "old"}
    refused = {"op": "refused", "reason": "permission denied", "who": {"role": "bob", "acting": "bob"}, "label": "t.c"}
    ledger, audit_log = tmp_path / "reads.jsonl", tmp_path / "audit.log"
    lines = [{**canary, "timestamp": now}, {**canary, "timestamp": now}, {**limit, "timestamp": now}, old]
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "no JSON\n")
    events = [
        refused,
        {**refused, "skipped": 3},
        {**refused, "repeated": 7},
        {"event": "peer_refused", "peer": {"uid": 5}},
    ]
    audit_log.write_text("".join(f"{json.dumps({'time': now, **event})}\n" for event in events))
    with serving(Command(stack, protected.name), "--ledger", ledger, "--audit-log", audit_log) as url:
        _, text, _ = ask(url)
    told = text[text.index("<h2>Alarms and refusals") :]
    seen = f"<td>{now}</td>"
    assert (
        f"{seen}<td>canary opened</td><td>till as shop from 10.0.0.7</td><td>public.person.email</td><td>2</td>" in told
    )
    assert "<td>limit of reads: refuse</td><td>&lt;i&gt;ann&lt;/i&gt;</td><td>field 61d0</td><td>1</td>" in told
    assert "<td>refused: permission denied</td><td>bob</td><td>t.c</td><td>12</td>" in told
    assert "<td>not allowed at the broker</td><td>uid 5</td><td></td><td>1</td>" in told
    assert "old" not in told[: told.index("<h2>Who read what")]


def test_others_are_refused(protected: Database, stack: Stack) -> None:
    with serving(Command(stack, protected.name)) as url:
        port = str(url.port)
        for host in ("example.org", f"example.org:{port}", "127.0.0.1", f"127.0.0.1:{port}.example.org", ""):
            assert ask(url, Host=host)[0] == 421
        for path in ("/", url.path.rstrip("/"), url.path + "x", "//example.org/", "/" + "é" * 40, f"{url.path}?x=1"):
            assert ask(url, urllib.parse.quote(path, safe="/?="))[0] == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            assert ask(url, method=method)[0] == 501
        assert ask(url, Host=f"localhost:{port}")[0] == 200


def test_it_listens_on_loopback_only(protected: Database, stack: Stack) -> None:
    with serving(Command(stack, protected.name)) as url:
        assert url.hostname == "127.0.0.1"
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        wanted = f":{url.port:04X}"
        assert {line[1] for line in listening if line[1].endswith(wanted) and line[3] == "0A"} == {f"0100007F{wanted}"}
        assert Command(stack, protected.name).run("dashboard", "--listen", url.port).code == 1


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_shows_it_and_runs_nothing(protected: Database, stack: Stack, tmp_path: Path) -> None:
    protected.sql("ALTER TABLE person RENAME TO \"<script>document.title='owned'</script>\"")
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    with serving(Command(stack, protected.name)) as url:
        line = ["chromium", *quiet, f"--screenshot={tmp_path / 'page.png'}", "--dump-dom", url.geturl()]
        dom = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert "<title>pg_envelope</title>" in dom
    assert "Protected columns" in dom
    assert "<script" not in dom
