"""pg_dump and pg_restore as each kind of role: superuser, database owner, who reads all, who owns a table."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.postgres import Cluster
from stack.stack import Stack
from tests.fix_stack import COPY, Database

from .fix_clusters import run

MARK = "PLAINTEXT-5d1e"
SOURCE = "owned"
OWNERS = "--username=owner"
PRIVATE = "envelope_private"
# SELECT on these, or a dump, would hand over rights and keys: nobody but the extension's owner has it.
NEVER_DUMPED = ("capability", "spare_dek", "rekey_dek")


@pytest.fixture(scope="module")
def source(stack: Stack) -> Iterator[str]:
    """A database of `owner`, who is no superuser: its tables are the owner's, and a superuser protects them."""
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {SOURCE} {COPY} OWNER owner")
        connection.execute("CREATE ROLE reader LOGIN IN ROLE pg_read_all_data")
    with stack.connect(SOURCE, "owner") as connection:
        connection.execute("CREATE TABLE customer (id int PRIMARY KEY, email text DEFAULT 'none', born date)")
        connection.execute(
            "CREATE TABLE message (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, who text NOT NULL, body text)"
        )
        connection.execute(f"INSERT INTO customer SELECT i, '{MARK}-' || i FROM generate_series(1, 20) i")
        connection.execute(f"INSERT INTO message (who, body) VALUES ('alice', '{MARK}'), ('bob', '{MARK}')")
        connection.execute("GRANT SELECT ON customer TO alice")
    with stack.connect(SOURCE) as connection:
        connection.execute("""CALL envelope.protect('customer', '["email", "born"]')""")
        connection.execute(
            """CALL envelope.protect('message', '["body"]', scope => 'subject', scope_column => 'who')"""
        )
        connection.execute("SELECT envelope.rotate('customer')")
        connection.execute("SELECT envelope.create_key('a key'), envelope.grant_key('a key', 'alice')")
    yield SOURCE
    with stack.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {SOURCE} WITH (FORCE)")
        connection.execute("DROP ROLE reader")


def dumped(stack: Stack, source: str, tmp_path: Path, role: str) -> Path:
    dump = tmp_path / f"{role}.dump"
    run(stack.cluster, source, "pg_dump", "--format=custom", f"--username={role}", "--file", dump)
    return dump


def assert_whole(cluster: Cluster, database: str) -> None:
    """All is readable and writable by who could before, and status() has nothing to say."""
    with cluster.connect(database) as superuser:
        # Whether it takes the place of its original, only a person can say.
        assert superuser.execute("SELECT envelope.this_is_the_original()").rowcount == 1
        assert superuser.execute("SELECT * FROM envelope.status() WHERE state <> 'ok'").fetchall() == []
    with cluster.connect(database, "alice") as alice:
        assert alice.execute("SELECT email FROM customer WHERE id = 7").fetchall() == [(f"{MARK}-7",)]
        assert alice.execute("SELECT envelope.decrypt(envelope.encrypt('x', 'a key', ''), '')").fetchall() == [("x",)]
    with cluster.connect(database, "owner") as owner:
        owner.execute("INSERT INTO customer VALUES (21, 'new')")
        owner.execute("INSERT INTO message (who, body) VALUES ('carol', 'a new subject')")
        assert owner.execute("SELECT count(email), min(email) FROM customer").fetchall() == [(21, f"{MARK}-1")]
        assert owner.execute("SELECT body FROM message ORDER BY id").fetchall() == [
            (MARK,),
            (MARK,),
            ("a new subject",),
        ]
        owner.execute("DELETE FROM customer WHERE id = 21")


@pytest.mark.parametrize("role", ["postgres", "owner", "reader"])
def test_a_dump_by_this_role_restores_by_a_superuser(
    stack: Stack,
    source: str,
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    tmp_path: Path,
    role: str,
) -> None:
    dump = dumped(stack, source, tmp_path, role)
    target = empty_database(f"by_{role}")
    run(other_cluster, target, "pg_restore", "--exit-on-error", "--dbname", target, dump)
    assert_whole(other_cluster, target)


def test_the_owner_restores_what_is_the_owner_s(
    stack: Stack, source: str, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    """docs/runbooks/restore.md: the superuser makes the extension and loads the key catalog, the owner all else."""
    dump = dumped(stack, source, tmp_path, "owner")
    target = empty_database("by_its_owner")
    with other_cluster.connect(target) as superuser:
        superuser.execute(f"ALTER DATABASE {target} OWNER TO owner")
        superuser.execute("SET client_min_messages = warning")
        superuser.execute("CREATE EXTENSION pg_envelope CASCADE")
        superuser.execute("GRANT USAGE ON TYPE envelope.plaintext TO owner")
    restore = ("pg_restore", "--exit-on-error", "--dbname", target)
    run(other_cluster, target, *restore, "--section=pre-data", f"--schema={PRIVATE}", dump)
    listed = run(other_cluster, target, "pg_restore", "--list", dump)
    chosen = tmp_path / "list"
    chosen.write_text("".join(line for line in listed.splitlines(keepends=True) if " EXTENSION " not in line))
    run(other_cluster, target, *restore, OWNERS, f"--exclude-schema={PRIVATE}", "--use-list", chosen, dump)
    with other_cluster.connect(target) as superuser:
        superuser.execute("REVOKE USAGE ON TYPE envelope.plaintext FROM owner")
    run(other_cluster, target, *restore, "--section=data", "--section=post-data", f"--schema={PRIVATE}", dump)
    assert_whole(other_cluster, target)


def test_a_new_owner_of_the_database_dumps_it_too(stack: Stack, source: str, tmp_path: Path) -> None:
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE handed_over TEMPLATE {source} OWNER bob")
    try:
        with stack.connect("handed_over") as connection:
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO bob")
            connection.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO bob")
        dumped(stack, "handed_over", tmp_path, "bob")
    finally:
        with stack.connect("postgres") as connection:
            connection.execute("DROP DATABASE handed_over WITH (FORCE)")


def test_the_owner_of_a_table_dumps_that_table(stack: Stack, source: str) -> None:
    """Without the key catalog: `owner` does not need to own the database for it."""
    with stack.connect("postgres") as connection:
        connection.execute(f"ALTER DATABASE {source} OWNER TO postgres")
    try:
        script = run(stack.cluster, source, "pg_dump", OWNERS, "--table=customer", "--table=customer_encrypted")
    finally:
        with stack.connect("postgres") as connection:
            connection.execute(f"ALTER DATABASE {source} OWNER TO owner")
    assert "COPY public.customer_encrypted" in script
    assert MARK not in script


def test_who_owns_nothing_dumps_nothing(stack: Stack, source: str) -> None:
    failed = subprocess.run(
        [stack.cluster.bindir / "pg_dump", "--username=alice"],
        env=stack.cluster.environ(source),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "permission denied" in failed.stderr


def test_the_owner_s_dump_holds_neither_plaintext_nor_capability(stack: Stack, source: str) -> None:
    script = run(stack.cluster, source, "pg_dump", OWNERS)
    assert "COPY envelope_private.dek " in script  # the control: the catalog is in it
    assert MARK not in script
    assert not [name for name in NEVER_DUMPED if f"COPY {PRIVATE}.{name} " in script]
    with stack.connect(source) as superuser:
        rights = superuser.execute("SELECT encode(capability, 'hex') FROM envelope_private.capability").fetchall()
    assert rights
    assert not [right for (right,) in rights if right in script]


def test_the_owner_of_the_database_reads_what_a_dump_holds_and_changes_nothing(stack: Stack, source: str) -> None:
    """What the owner may do in the private schema is exactly what pg_dump needs."""
    with stack.connect(source) as superuser:
        rows = superuser.execute(
            "SELECT c.relname, a.privilege_type, c.oid = ANY (e.extconfig) OR c.relname LIKE 'messages_%'"
            " FROM pg_class c JOIN pg_extension e ON e.extname = 'pg_envelope', aclexplode(c.relacl) a"
            f" WHERE c.relnamespace = '{PRIVATE}'::regnamespace AND a.grantee = 'pg_database_owner'::regrole"
        ).fetchall()
    assert rows
    assert {(privilege, is_dumped) for _, privilege, is_dumped in rows} == {("SELECT", True)}
    assert not {name for name, _, _ in rows} & set(NEVER_DUMPED)


def test_what_a_dropped_role_had_is_in_no_dump(db: Database, tmp_path: Path) -> None:
    """Its number may be that of another role in the cluster where the dump is restored."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    db.sql("""CALL envelope.protect('t', '["v"]'); SELECT envelope.create_key('cards')""")
    db.sql("CREATE ROLE short_lived")
    for role in ("short_lived", "bob"):
        db.sql(f"SELECT envelope.grant_key('cards', '{role}'), envelope.grant_client('t', 'v', '{role}')")
    number = db.one("SELECT oid FROM pg_roles WHERE rolname = 'short_lived'")
    db.sql("DROP ROLE short_lived")
    dump = run(db.stack.cluster, db.name, "pg_dump", "--data-only")
    granted = [line for line in dump.splitlines() if line.split("\t")[1:2] in (["bob"], [str(number)])]
    assert [line.split("\t")[1] for line in granted] == ["bob", "bob"]
