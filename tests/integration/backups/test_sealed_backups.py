"""pg-envelope backups create, restore, verify, prune, with real servers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pg_envelope_client.backups import head as heads
from pg_envelope_client.backups.folder import mark_verified
from stack.postgres import Cluster
from tests.fix_stack import Database
from tests.integration.backups.conftest import MARKER
from tests.integration.fix_server_user import Done, Run

LISTED = "SELECT label, state FROM envelope.backups ORDER BY label"


def done(result: Done) -> Done:
    assert result.returncode == 0, result.stderr + result.stdout
    return result


def made(run: Run, *words: str, label: str = "one") -> Path:
    told = json.loads(done(run("backups", "create", ".", "--label", label, "--json", *words)).stdout)
    return Path(told["file"])


def failed(result: Done) -> str:
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    return result.stderr


def checks(result: Done) -> dict[str, str]:
    return {row["check_name"]: row["state"] for row in json.loads(result.stdout)}


def test_a_dump_by_the_kms_and_by_the_break_glass_key(
    shop: Database,
    run: Run,
    folder: Path,
    glass: list[str],
    empty_database: Callable[[str], str],
    other_cluster: Cluster,
) -> None:
    file = folder / made(run)
    content = file.read_bytes()
    assert (oct(file.stat().st_mode & 0o777), shop.sql(LISTED)) == ("0o600", [("one", "kept")])
    for word in (b"customer", b"Town 8Zt", MARKER.encode(), b"alice", b"PGDMP"):
        assert word not in content
    found = checks(done(run("backups", "verify", "one.backup", "--json")))
    # Of status() the rows that are not ok: the scratch cluster is a copy, and says so.
    expected = {"file": "ok", f"{shop.name}: original": "warning", f"{shop.name}: values": "ok"}
    assert found == expected
    there = other_cluster.environ("postgres")
    for name, words in [("by_kms", []), ("by_glass", [*glass, "--broker", "/nowhere"])]:
        target = ["-d", empty_database(name), "--host", there["PGHOST"], "-p", there["PGPORT"]]
        done(run("backups", "restore", "one.backup", *target, *words))
        with other_cluster.connect(name, "alice") as connection:
            rows = connection.execute("SELECT count(*), min(email), min(town) FROM customer").fetchall()
        assert rows == [(500, MARKER, "Town 8Zt")]
    again = failed(run("backups", "restore", "one.backup", "-d", "by_kms", *target[2:]))
    assert "has pg_envelope in it already" in again


def test_a_base_backup_of_the_cluster(shop: Database, run: Run, folder: Path, glass: list[str]) -> None:
    made(run, "--kind", "base")
    found = checks(done(run("backups", "verify", "one.backup", "--json", *glass)))
    assert (found["file"], found[f"{shop.name}: values"]) == ("ok", "ok")
    # Other databases of the cluster have rows of their own.
    assert found[f"{shop.name}: original"] == "warning"
    done(run("backups", "restore", "one.backup", "--out", "data", *glass))
    assert (folder / "data/PG_VERSION").exists()
    assert oct((folder / "data").stat().st_mode & 0o777) == "0o700"
    assert "exists already" in failed(run("backups", "restore", "one.backup", "--out", "data"))
    assert "wants --out" in failed(run("backups", "restore", "one.backup"))


def test_it_needs_a_break_glass_key_or_the_word_that_none_is_wanted(shop: Database, run: Run, folder: Path) -> None:
    refused = failed(run("backups", "create", ".", "--label", "one"))
    assert "--kms-only" in refused
    assert (shop.sql(LISTED), list(folder.glob("*backup*"))) == ([], [])
    made(run, "--kms-only")
    told = failed(run("backups", "verify", "one.backup", "--key", "x", "--passphrase-file", "x"))
    assert "not sealed for a break-glass key" in told


def test_another_holder_s_key_opens_nothing(shop: Database, run: Run, folder: Path, glass: list[str]) -> None:
    made(run)
    done(run("keys-backup", "init", "--out", "other", "--passphrase-file", glass[3]))
    told = failed(run("backups", "verify", "one.backup", "--key", "other/break-glass.key", *glass[2:]))
    assert "another break-glass key" in told


def test_what_was_altered_is_not_restored(shop: Database, run: Run, folder: Path) -> None:
    file = folder / made(run, "--kms-only")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert "to its end" in failed(run("backups", "verify", "one.backup", "--scratch-dir", "."))
    file.write_bytes(whole.replace(b'"label":"one"', b'"label":"0ne"', 1))
    assert "to its end" in failed(run("backups", "restore", "one.backup", "-d", "nowhere"))
    assert sorted(path.name for path in folder.iterdir()) == ["one.backup"]


def test_a_failing_dump_leaves_nothing(shop: Database, run: Run, folder: Path, tmp_path: Path) -> None:
    programs = folder / "bin"
    programs.mkdir()
    (programs / "pg_dump").write_text("#!/bin/sh\nhead -c 300000 /dev/zero\necho 'out of space 5Rt' >&2\nexit 3\n")
    (programs / "pg_dump").chmod(0o755)
    told = failed(run("backups", "create", ".", "--label", "one", "--kms-only", "--bindir", programs))
    assert ("pg_dump failed (exit code 3)" in told, "out of space 5Rt" in told) == (True, True)
    assert (shop.sql(LISTED), list(folder.glob("*backup*"))) == ([("one", "destroyed")], [])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_backup_that_is_broken_off(shop: Database, run: Run, folder: Path, how: signal.Signals) -> None:
    """It never counts as a backup, and the database counts with it for as long as nobody says otherwise."""
    programs = folder / "bin"
    programs.mkdir()
    # It goes on writing. A signal that comes just before a read is noticed when the read ends, and not before.
    goes_on = "while head -c 99999 /dev/zero; do sleep 0.05; done"
    (programs / "pg_dump").write_text(f"#!/bin/sh\nhead -c 300000 /dev/zero\nkill -{how.value} $PPID\n{goes_on}\n")
    (programs / "pg_dump").chmod(0o755)
    result = run("backups", "create", ".", "--label", "one", "--kms-only", "--bindir", programs)
    assert result.returncode in (-signal.SIGKILL, 130)
    assert shop.sql(LISTED) == [("one", "under way" if how is signal.SIGKILL else "destroyed")]
    assert list(folder.glob("*.backup")) == []
    shop.sql("SELECT envelope.forget_backup('one')")
    made(run, "--kms-only", label="next")


def test_a_label_is_a_file_s_name(shop: Database, run: Run) -> None:
    assert run("backups", "create", ".", "--label", "../up", "--kms-only").returncode == 2


def test_roles_that_are_missing_are_named_before_anything_is_done(
    shop: Database, run: Run, other_cluster: Cluster, empty_database: Callable[[str], str]
) -> None:
    shop.sql("CREATE ROLE only_here_9")
    try:
        made(run, "--kms-only")
    finally:
        shop.sql("DROP ROLE only_here_9")
    there, name = other_cluster.environ("postgres"), empty_database("lacking")
    target = ["-d", name, "--host", there["PGHOST"], "-p", there["PGPORT"]]
    assert "only_here_9" in failed(run("backups", "restore", "one.backup", *target))
    with other_cluster.connect(name) as connection:
        assert connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'pg_envelope'").fetchone() == (0,)


def test_verify_finds_what_the_file_cannot_tell(shop: Database, run: Run, folder: Path) -> None:
    """The file opens, and a value in it does not."""
    made(run, "--kms-only", label="good")
    envelope = shop.one("SELECT email FROM customer_encrypted WHERE id = 1")
    shop.sql("SET session_replication_role = replica")
    shop.sql("UPDATE customer_encrypted SET email = %s WHERE id = 2", envelope)
    made(run, "--kms-only", label="bad")
    result = run("backups", "verify", "bad.backup", "--json")
    expected = {"file": "ok", f"{shop.name}: original": "warning", f"{shop.name}: values": "failed"}
    assert (result.returncode, checks(result)) == (1, expected)
    assert MARKER not in result.stdout + result.stderr
    done(run("backups", "verify", "good.backup"))
    assert [path.name for path in folder.glob("*.verified")] == ["good.backup.verified"]


def aged(file: Path, target: Path, days: int) -> None:
    """Writes a backup that is as old as that, by the time in its head."""
    head = heads.read(file)
    when = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    old = heads.BackupHead(**{**vars(head), "label": target.stem, "made": when})
    target.write_bytes(old.written() + file.read_bytes()[len(head.written()) :])


def test_prune_keeps_the_young_and_the_newest_verified_one(shop: Database, run: Run, folder: Path) -> None:
    made(run, "--kms-only", label="d")
    for label, days in (("a", 90), ("b", 60), ("c", 50)):
        shop.sql("SELECT envelope.register_backup(%s)", label)
        aged(folder / "d.backup", folder / f"{label}.backup", days)

    def there() -> list[str]:
        return sorted(path.stem for path in folder.glob("*.backup"))

    assert "is verified" in done(run("backups", "prune", ".")).stderr
    assert there() == ["a", "b", "c", "d"], "without a verified one nothing goes"
    for label in ("a", "b"):
        path = folder / f"{label}.backup"
        mark_verified(path, heads.read(path), "2026-01-01T00:00:00+00:00")
        shop.stack.cluster.account.own(folder / f"{label}.backup.verified")
    assert [row["label"] for row in json.loads(run("backups", "prune", ".", "--dry-run", "--json").stdout)] == [
        "a",
        "c",
    ]
    assert there() == ["a", "b", "c", "d"]
    done(run("backups", "prune", "."))
    assert there() == ["b", "d"]
    assert shop.sql(LISTED) == [("a", "destroyed"), ("b", "kept"), ("c", "destroyed"), ("d", "kept")]
    assert sorted(path.name for path in folder.iterdir()) == ["b.backup", "b.backup.verified", "d.backup"]
    (folder / "b.backup").write_bytes((folder / "d.backup").read_bytes())
    told = done(run("backups", "prune", ".")).stderr
    assert ("b.backup has another name than its label" in told, "No backup here is verified" in told) == (True, True)


def test_prune_goes_on_where_it_was_broken_off(shop: Database, run: Run, folder: Path) -> None:
    made(run, "--kms-only", label="a")
    (folder / "a.backup").rename(folder / "a.backup.pruned")
    (folder / "note.backup").write_bytes(b"something else")
    result = done(run("backups", "prune", "."))
    assert "note.backup is no sealed backup" in result.stderr
    assert shop.sql(LISTED) == [("a", "destroyed")]
    assert [path.name for path in folder.iterdir()] == ["note.backup"]


def test_another_database_s_backups_stay(
    shop: Database, run: Run, folder: Path, make_db: Callable[[], Database]
) -> None:
    made(run, "--kms-only", label="a")
    aged(folder / "a.backup", folder / "a.backup", 99)
    other = make_db()
    other.sql("SELECT envelope.create_key('k')")
    assert json.loads(done(run("backups", "prune", ".", "-d", other.name, "--json")).stdout) == []
    assert (folder / "a.backup").exists()


def test_a_backup_may_hold_what_there_was_until_its_end(shop: Database) -> None:
    """A key that was made, or destroyed, while the backup was under way counts as in it."""
    shop.sql("SELECT envelope.register_backup('b', finished_at => 'infinity')")
    shop.sql("SELECT envelope.create_key('late', store => 'catalog')")
    assert shop.sql(LISTED) == [("b", "under way")]
    shop.sql("CALL envelope.shred_key('late', 'test')")
    assert shop.one("SELECT array_agg(backup) FROM envelope.shred_audit()") == ["b"]
    assert shop.one("SELECT envelope.finish_backup('b')") is True
    assert shop.one("SELECT envelope.finish_backup('b')") is False
    assert shop.one("SELECT array_agg(backup) FROM envelope.shred_audit()") == ["b"]
    shop.sql("SELECT envelope.create_key('later', store => 'catalog')")
    shop.sql("CALL envelope.shred_key('later', 'test')")
    assert shop.one("SELECT array_agg(erased) FROM envelope.shred_audit()") == ["late"]
    with pytest.raises(psycopg.Error) as caught:
        shop.sql("SELECT envelope.register_backup('c', '2026-01-02', finished_at => '2026-01-01')")
    assert caught.value.sqlstate == "22023"


def test_root_is_sent_to_the_server_s_user(shop: Database, run: Run, folder: Path) -> None:
    made(run, "--kms-only")
    if os.geteuid() == 0:
        done_as_root = run("backups", "verify", "one.backup", ids=(0, 0))
        assert (done_as_root.returncode, "runuser" in done_as_root.stderr) == (2, True)
