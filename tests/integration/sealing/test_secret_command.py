"""pg-envelope secret: sealed and opened by the command, at the broker's socket and at its door."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psycopg
import pytest

from pg_envelope_client import Secrets
from stack.processes import free_port, private_file
from tests import fix_forked
from tests.fix_stack import Database
from tests.integration.fix_server_user import Done, Run, command
from tests.integration.sealing.fix_door import DoorOfTests
from tests.integration.sealing.fix_vault import LISTER, READER, WRITER, VaultOfTests

VALUES = {"STRIPE_KEY": "sk_live_9c1", "DB_URL": "postgres://u:p@h/d?x=1#y", "CERT": "-----BEGIN 9c1\nline 2\n"}
ENV = (
    "# ours\nexport STRIPE_KEY=sk_live_9c1  # a remark\nDB_URL='postgres://u:p@h/d?x=1#y'\nDEBUG=\n"
    'CERT="-----BEGIN 9c1\nline 2\n"\n'
)


@pytest.fixture
def run(run: Run) -> Run:
    """The commands of `pg-envelope secret`."""

    def of_secret(*words: object, **options: object) -> Done:
        return run("secret", *words, **options)

    return of_secret


@pytest.fixture
def env_file(db: Database, folder: Path) -> Path:
    private_file(folder / ".env", ENV, db.stack.cluster.account)
    return folder / ".env"


def nowhere(db: Database, *values: str) -> None:
    """None of the values is in the server's log or the audit log."""
    logs = db.stack.cluster.log.read_text() + db.stack.broker.audit_log.read_text()
    for value in values:
        assert value not in logs


def test_set_get_and_list(db: Database, run: Run) -> None:
    first = run("set", "stripe", given="sk_live_7Zq\n")
    assert (first.returncode, first.stderr) == (0, "")
    assert "version 1" in first.stdout
    assert run("set", "stripe", "--bytes", given="sk_live_8Zq").returncode == 0
    assert run("get", "stripe").stdout == "sk_live_8Zq"
    assert json.loads(run("get", "stripe", "--json").stdout) == {"secret": "stripe", "value": "sk_live_8Zq"}
    assert db.one("SELECT envelope.secret('stripe', 1)::text") == "sk_live_7Zq"
    db.sql("SELECT envelope.set_schedule('secret', '90 days', 'stripe')")
    (listed,) = json.loads(run("list", "--json").stdout)
    assert (listed["name"], listed["version"], listed["overdue"]) == ("stripe", 2, None)
    assert listed["due_at"] > listed["stored_at"]
    assert "_live_" not in first.stdout + run("list").stdout
    nowhere(db, "sk_live_7Zq", "sk_live_8Zq")


def test_rotate_draws_another_value(db: Database, run: Run) -> None:
    run("set", "pepper", given="one")
    assert "version 2" in run("rotate", "pepper").stdout
    drawn = run("get", "pepper").stdout
    assert len(drawn) == 32
    assert run("rotate", "pepper").returncode == 0
    assert run("get", "pepper").stdout != drawn
    assert run("rotate", "nothing").returncode == 1


def test_what_is_no_secret_is_refused(db: Database, run: Run) -> None:
    for words, given in [(["set", "s"], ""), (["set", "s"], "\n"), (["set", "s", "--bytes"], "")]:
        assert run(*words, given=given).returncode == 2, words
    assert run("get", "s").returncode == 1
    assert db.sql("TABLE envelope.secrets") == []


def test_each_version_is_in_the_audit_log(door: DoorOfTests, run: Run) -> None:
    run("set", "stripe", given="one")
    door.db.sql("SELECT envelope.replace_secret('stripe', 'two'::text)")
    events = [event for event in door.events("request") if event.get("action") == "store_secret"]
    told = [(event["action"], event["label"], event["reason"]) for event in events]
    assert told == [("store_secret", "stripe", "version 1"), ("store_secret", "stripe", "version 2")]


def test_import_moves_a_file_and_can_be_repeated(db: Database, run: Run, env_file: Path) -> None:
    done = run("import", ".env", "--prefix", "shop.", "--json")
    assert done.returncode == 0, done.stderr
    assert [(row["line"], row["secret"], row["state"]) for row in json.loads(done.stdout)] == [
        ("2", "shop.STRIPE_KEY", "created"),
        ("3", "shop.DB_URL", "created"),
        ("4", "shop.DEBUG", "empty"),
        ("5-7", "shop.CERT", "created"),
    ]
    assert json.loads(done.stderr)["notice"].endswith("can go: 2, 3, 5-7.")
    assert env_file.read_text() == ENV
    for name, value in VALUES.items():
        assert run("get", f"shop.{name}").stdout == value
    env_file.write_text(ENV.replace("sk_live_9c1", "sk_live_new"))
    again = json.loads(run("import", ".env", "--prefix", "shop.", "--json").stdout)
    assert [row["state"] for row in again] == ["updated", "already there", "empty", "already there"]
    nowhere(db, "sk_live_9c1", "sk_live_new", "postgres://u:p", "-----BEGIN 9c1")


def test_a_bad_line_stores_nothing(db: Database, run: Run, env_file: Path) -> None:
    env_file.write_text("GOOD=1\nBAD=$(cat secret-file)\n")
    done = run("import", ".env")
    assert (done.returncode, "line 2" in done.stderr, "secret-file" in done.stderr) == (1, True, False)
    env_file.write_text("GOOD=1\n")
    env_file.chmod(0o644)
    assert "chmod 0600" in run("import", ".env").stderr
    assert db.sql("TABLE envelope.secrets") == []


def test_an_application_runs_with_its_secrets_and_no_others(door: DoorOfTests, run: Run, env_file: Path) -> None:
    db = door.db
    assert run("import", ".env", "--prefix", "shop.").returncode == 0
    run("set", "shop.OTHER", given="not granted")
    run("set", "pepper", given="hot")
    granted = ["shop.STRIPE_KEY", "shop.CERT", "pepper"]
    door.allow(*(db.one("SELECT envelope.grant_client_key(%s, 'alice')", name) for name in granted))
    broker = {
        "PG_ENVELOPE_BROKER": f"tls://{door.address}",
        "PG_ENVELOPE_CERTIFICATE": str(door.certificate),
        "PG_ENVELOPE_CERTIFICATE_KEY": str(door.certificate.with_suffix(".key")),
        "PG_ENVELOPE_CA_FILE": str(door.directory / "ca.pem"),
    }

    def of_alice(*words: str) -> Done:
        return command(db, "alice", env_file.parent, "secret", *words, environment=broker)

    show = ["python3", "-c", "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv])); sys.exit(7)"]
    done = of_alice("exec", "--prefix", "shop.", "--env", "SALT=pepper", "--", *show, "--json")
    assert done.returncode == 7, done.stderr
    environment, arguments = json.loads(done.stdout)
    assert arguments == ["-c", "--json"]
    found = {name: environment.get(name) for name in ("STRIPE_KEY", "CERT", "SALT", "OTHER", "DB_URL")}
    assert found == {
        "STRIPE_KEY": VALUES["STRIPE_KEY"], "CERT": VALUES["CERT"], "SALT": "hot", "OTHER": None, "DB_URL": None,
    }  # fmt: skip
    for words, code in [
        (["--env", "X=shop.OTHER", "--", *show], 1),
        (["--prefix", "none", "--", *show], 2),
        (["--env", "X", "--", *show], 2),
        (["--env", "A B=pepper", "--", *show], 1),
        (["--prefix", "", "--", *show], 1),
        (["--env", "X=pepper", "--", "no such program"], 2),
    ]:
        failed = of_alice("exec", *words)
        assert (failed.returncode, failed.stdout) == (code, ""), (words, failed.stderr)
    assert "NotPermitted" not in of_alice("get", "shop.OTHER").stderr
    nowhere(db, *VALUES.values(), "not granted")


@pytest.fixture
def stripe(door: DoorOfTests) -> DoorOfTests:
    """The secret `stripe`, which alice and `crm` may have."""
    door.db.sql("SELECT envelope.create_key('stripe')")
    door.allow(door.db.one("SELECT envelope.grant_client_key('stripe', 'alice')"))
    return door


def test_an_application_stores_where_it_may(stripe: DoorOfTests) -> None:
    db, secrets = stripe.db, Secrets(stripe.client())
    with pytest.raises(Exception, match="permission denied for function store_secret"):
        secrets.store("stripe", "sk_1")
    db.sql("GRANT EXECUTE ON FUNCTION envelope.store_secret(text, integer, envelope.ciphertext) TO alice, bob")
    assert (secrets.store("stripe", "sk_1"), secrets["stripe"]) == (1, "sk_1")
    assert (secrets.store("stripe", b"\x00\xff"), secrets.content("stripe")) == (2, b"\x00\xff")
    assert secrets.valid("stripe") == [b"\x00\xff", b"sk_1"]
    assert db.one("SELECT envelope.secret('stripe', 1)::text") == "sk_1"
    assert (secrets.names(), secrets.names("str"), secrets.names("x")) == (["stripe"], ["stripe"], [])
    with pytest.raises(Exception, match="cannot be empty"):
        secrets.store("stripe", "")
    assert (Secrets(stripe.client("bob")).names(), len(db.sql("TABLE envelope.secrets"))) == ([], 2)


def test_the_server_takes_the_next_version_under_the_active_key_only(stripe: DoorOfTests) -> None:
    db, client = stripe.db, stripe.client()
    db.sql("GRANT EXECUTE ON FUNCTION envelope.store_secret(text, integer, envelope.ciphertext) TO alice, bob")
    sealed = client.named("stripe").seal("sk_1", "secret 1")
    store = "SELECT envelope.store_secret(%s, %s, %s::bytea::envelope.ciphertext)"

    def refused(*values: object, user: str = "alice") -> str:
        with pytest.raises(psycopg.Error) as caught:
            db.sql(store, *values, user=user)
        assert "sk_1" not in str(caught.value)
        return str(caught.value.sqlstate)

    assert refused("stripe", 1, sealed, user="bob") == "42501"
    assert refused("nothing", 1, sealed) == "42501"
    assert [refused("stripe", number, sealed) for number in (0, 2, -1, None)] == ["40001"] * 4
    assert refused("stripe", 1, None) == "55000"
    db.sql("SELECT envelope.create_key('other')")
    assert refused("stripe", 1, db.one("SELECT envelope.encrypt('x'::text, 'other', 'secret 1')")) == "55000"
    db.sql("SELECT envelope.rotate_key('stripe')")
    assert refused("stripe", 1, sealed) == "55000", "a late client would store under a key of before"
    client.refresh()
    assert db.one(store, "stripe", 1, client.named("stripe").seal("sk_1", "secret 1"), user="alice") == 1
    assert Secrets(client)["stripe"] == "sk_1"


def test_a_key_of_the_same_name_that_is_new(stripe: DoorOfTests) -> None:
    """A client that runs on opens the secret under the key that has the name now."""
    db, secrets = stripe.db, Secrets(stripe.client())
    db.sql("SELECT envelope.rotate_key('stripe')")
    db.sql("GRANT EXECUTE ON FUNCTION envelope.store_secret(text, integer, envelope.ciphertext) TO alice")
    assert secrets.store("stripe", "sk_1") == 1
    db.sql("SELECT envelope.rotate_key('stripe')")
    assert secrets.store("stripe", "sk_2") == 2
    db.sql("SELECT envelope.flush('test')")
    assert secrets["stripe"] == "sk_2"


@pytest.fixture
def in_vault(vault: VaultOfTests, tmp_path: Path) -> Run:
    """The commands of `pg-envelope secret` on a machine that reaches neither the database nor the broker."""

    def run(*words: str, policy: str = WRITER, **options: str) -> Done:
        changes = {name: value for name, value in options.items() if name.isupper()}
        environment = {**vault.environment(policy, PG_ENVELOPE_VAULT_PATH="shop"), **changes}
        found = {"PATH": os.environ["PATH"], "COLUMNS": "200", "HOME": str(tmp_path), "PGHOST": "/nowhere"}
        line = ["pg-envelope", "secret", *words]
        python, given = Path(sys.executable), options.get("given", "")
        done = fix_forked.run(python, line, {**found, **environment}, given=given, folder=tmp_path)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def test_all_commands_work_with_vault(vault: VaultOfTests, in_vault: Run, tmp_path: Path) -> None:
    first = in_vault("set", "stripe", given="sk_live_7Zq\n")
    assert (first.returncode, first.stdout) == (0, "Secret stripe stored, version 1.\n"), first.stderr
    assert vault.members("shop/stripe") == {"value": "sk_live_7Zq"}
    assert in_vault("get", "stripe", policy=READER).stdout == "sk_live_7Zq"
    (row,) = json.loads(in_vault("list", "--json", policy=LISTER).stdout)
    assert (row["name"], row["version"], row["due_at"]) == ("stripe", 1, None)
    assert "version 2" in in_vault("rotate", "stripe").stdout
    assert len(in_vault("get", "stripe").stdout) == 32
    private_file(tmp_path / ".env", ENV)
    done = in_vault("import", ".env", "--json", "--prefix", "env.")
    assert [row["state"] for row in json.loads(done.stdout)] == ["created", "created", "empty", "created"], done.stderr
    again = json.loads(in_vault("import", ".env", "--json", "--prefix", "env.").stdout)
    assert [row["state"] for row in again] == ["already there", "already there", "empty", "already there"]
    show = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    found = json.loads(in_vault("exec", "--prefix", "env.", "--env", "PAY=stripe", "--", *show, policy=LISTER).stdout)
    assert {name: found[name] for name in VALUES} == VALUES
    assert len(found["PAY"]) == 32
    log = vault.kms.audit_log.read_text()
    assert not [value for value in (*VALUES.values(), "sk_live_7Zq") if value in log]


def test_what_vault_refuses_the_command_tells(vault: VaultOfTests, in_vault: Run, tmp_path: Path) -> None:
    private_file(tmp_path / ".env", ENV)
    vault.put("shop/stripe", value="sk_live_7Zq")
    nowhere = f"https://127.0.0.1:{free_port()}"
    for code, words, options in [
        (1, ["set", "stripe"], {"policy": READER, "given": "planted9"}),
        (1, ["rotate", "stripe"], {"policy": LISTER}),
        (1, ["rotate", "nothing"], {}),
        (1, ["list"], {"policy": READER}),
        (1, ["get", "none"], {}),
        (1, ["get", "../other"], {}),
        (1, ["get", "stripe"], {"PG_ENVELOPE_VAULT_MOUNT": "old"}),
        (1, ["get", "stripe"], {"PG_ENVELOPE_VAULT_MOUNT": "none"}),
        (1, ["get", "stripe"], {"PG_ENVELOPE_VAULT": nowhere}),
        (1, ["get", "stripe"], {"PG_ENVELOPE_VAULT": "http://vault.example"}),
        (1, ["get", "stripe"], {"PG_ENVELOPE_VAULT_TOKEN_FILE": "/nowhere"}),
        (1, ["get", "stripe"], {"PG_ENVELOPE_VAULT_ROLE_ID_FILE": "/nowhere"}),
        (2, ["set", "stripe", "--store", "catalog"], {"given": "planted9"}),
        (2, ["import", ".env", "--kek", "other"], {}),
    ]:
        done = in_vault(*words, **options)
        assert (done.returncode, done.stdout) == (code, ""), (words, done.stderr)
        assert "planted9" not in done.stderr
        assert done.stderr.strip()
    assert vault.members("shop/stripe") == {"value": "sk_live_7Zq"}
    vault.kms.data("PUT", "secret/destroy/shop/stripe", {"versions": [1]})
    assert "destroyed" in in_vault("get", "stripe").stderr
