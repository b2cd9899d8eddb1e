"""A KEK that is gone, with a backup of the keys: nothing is lost; without leave, nothing comes out or in."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import break_glass
from pg_envelope_client.keys_backup.backup_file import Reader
from pg_envelope_client.keys_backup.opening import OpenedBackup
from stack.broker import toml

from .conftest import CHEAP, PASSPHRASE, Vault

VALUES = ["card 1", "card 2", "newer", "person 1", "person 2", "person 3"]
Rows = Callable[[], list[str]]


def audited(vault: Vault, op: str) -> list[dict[str, object]]:
    lines = map(json.loads, vault.stack.broker.audit_log.read_text().splitlines())
    return [line for line in lines if line.get("op") == op]


def plain_deks(vault: Vault, file: str = "keys.jsonl") -> list[bytes]:
    private = break_glass.read((vault.safe / "break-glass.key").read_bytes(), PASSPHRASE)
    backup = Reader(vault.safe / file)
    deks = [OpenedBackup(backup, private).dek(line) for line in backup.deks]
    assert all(deks)
    return [dek for dek in deks if dek is not None]


def test_a_destroyed_kek_is_survived(vault: Vault, rows: Rows) -> None:
    vault.init("--passphrase-file", vault.passphrase)
    file = vault.backup()
    uuid = vault.db.one("SELECT database_uuid FROM envelope_private.installation")
    vault.destroy_kek("doomed")
    for dek_id in (row[0] for row in vault.db.sql("SELECT dek_id FROM envelope_private.dek WHERE store = 'vault'")):
        vault.stack.openbao.request("DELETE", f"kv/metadata/pg_envelope/{uuid}/{dek_id}")
    vault.stack.broker.restart()
    with pytest.raises(psycopg.Error) as caught:
        rows()
    assert caught.value.sqlstate in ("42704", "58000")
    assert "3 DEKs are back" in vault.done("keys-backup", "return", file, "--kek", "rescue", *vault.unlock).out
    assert rows() == VALUES
    assert vault.db.sql("SELECT DISTINCT kek, store FROM envelope_private.dek") == [("rescue", "catalog")]
    # New versions are made under the new KEK, and everything can be written.
    vault.db.sql("SELECT envelope.rotate('person')")
    vault.db.sql("UPDATE person SET secret = 'written' WHERE id = 1")
    assert rows() == [*VALUES[:3], *VALUES[4:], "written"]
    assert vault.db.one("SELECT count(*) FROM envelope_private.dek WHERE kek = 'doomed'") == 0
    assert [line["outcome"] for line in audited(vault, "keys_return")][-2:] == ["ok", "ok"]
    assert audited(vault, "keys_backup")[-1]["dek_ids"] == [1, 2, 3]


def test_the_dead_kek_leaves_the_configuration(vault: Vault, rows: Rows) -> None:
    """docs/runbooks/keys-backup.md, step 5: afterwards nothing asks for it."""
    file = vault.backup()
    vault.destroy_kek("doomed")
    vault.done("keys-backup", "return", file, "--kek", "rescue", *vault.unlock)
    unused = "SELECT dek_id, state FROM envelope.keys WHERE kek = 'doomed' AND state <> 'destroyed'"
    assert vault.db.sql(unused) == []
    state = "SELECT state FROM envelope.status() WHERE check_name = 'kek doomed'"
    assert vault.db.sql(state) == [("failed",)]
    broker = vault.stack.broker
    before = broker.config_file.read_text()
    tables = broker.config()
    del tables["kek"]["doomed"]
    broker.config_file.write_text(toml(tables))
    try:
        broker.restart()
        assert rows() == VALUES
        assert vault.db.sql(state) == []
        vault.db.sql("SELECT envelope.rotate('person')")
        vault.db.sql("CALL envelope.rotate_due()")
        vault.db.sql("CALL envelope.rotate_kek('rescue')")
        assert vault.db.sql("SELECT check_name, detail FROM envelope.status() WHERE state = 'failed'") == []
    finally:
        broker.config_file.write_text(before)
        broker.restart()


def test_a_restore_can_be_repeated_and_no_dek_is_ever_seen(vault: Vault, rows: Rows) -> None:
    file = vault.backup()
    for _ in range(2):
        vault.done("keys-backup", "return", file, "--kek", "rescue", *vault.unlock)
    assert rows() == VALUES
    logs = (vault.stack.cluster.log, vault.stack.broker.log, vault.stack.broker.audit_log, file)
    texts = [path.read_bytes() for path in logs]
    assert any(b"envelope_private.keys_return" in text for text in texts), "the server logs all statements"
    for dek in plain_deks(vault):
        forms = (dek, dek.hex().encode(), base64.b64encode(dek))
        assert not [form for form in forms for text in texts if form in text]


def test_only_the_deks_of_one_kek(vault: Vault, rows: Rows) -> None:
    vault.db.sql("CREATE TABLE other (id int PRIMARY KEY, secret text)")
    vault.db.sql("""CALL envelope.protect('other', '["secret"]', 'default', 'catalog')""")
    file = vault.backup()
    vault.done("keys-backup", "return", file, "--kek", "rescue", "--from-kek", "doomed", *vault.unlock)
    assert vault.db.sql("SELECT DISTINCT kek FROM envelope_private.dek ORDER BY 1") == [("default",), ("rescue",)]
    assert vault.db.sql("SELECT DISTINCT kek FROM envelope_private.key ORDER BY 1") == [("default",), ("rescue",)]
    assert rows() == VALUES


def test_a_key_for_each_subject_under_a_kek_of_the_same_name(vault: Vault) -> None:
    vault.db.sql("CREATE TABLE visit (id int PRIMARY KEY, patient text NOT NULL, note text)")
    vault.db.sql("INSERT INTO visit SELECT i, 'patient-' || i, 'note ' || i FROM generate_series(1, 250) i")
    vault.db.sql(
        """CALL envelope.protect('visit', '["note"]', 'doomed', scope => 'subject', scope_column => 'patient',
           store => 'catalog')"""
    )
    file = vault.backup()
    assert b"patient-7" not in file.read_bytes()
    vault.destroy_kek("doomed")
    vault.make_kek("doomed")
    vault.stack.broker.restart()
    assert "253 DEKs are back" in vault.done("keys-backup", "return", file, "--kek", "doomed", *vault.unlock).out
    assert vault.db.one("SELECT count(*) FROM visit WHERE note = 'note ' || id") == 250
    # No DEK that was drawn ahead under the lost KEK is given to anybody.
    vault.db.sql("INSERT INTO visit VALUES (1000, 'patient-1000', 'new')")
    vault.db.sql("SELECT envelope.flush('test')")
    assert vault.db.one("SELECT note FROM visit WHERE id = 1000") == "new"


class TestDeniedByDefault:
    def test_no_backup_without_a_public_key(self, vault: Vault) -> None:
        vault.without("break_glass_public_key_file", "allow_keys_return")
        before = set(vault.safe.iterdir())
        result = vault.run("keys-backup", "make", "--out", vault.safe / "keys.jsonl")
        assert result.code == 1
        assert "this broker gives no DEKs into a backup" in result.err
        assert set(vault.safe.iterdir()) == before

    def test_no_restore_without_leave(self, vault: Vault) -> None:
        vault.without("allow_keys_return")
        result = vault.run("keys-backup", "return", vault.backup(), "--kek", "doomed", *vault.unlock)
        assert result.code == 1
        assert "this broker takes no DEKs out of a backup" in result.err
        assert "allow_keys_return" in result.err

    def test_nobody_but_a_superuser(self, vault: Vault) -> None:
        for statement in (
            "SELECT * FROM envelope_private.keys_backup(0, 1)",
            "SELECT * FROM envelope_private.keys_backup_place()",
            "SELECT * FROM envelope_private.keys_return_key('doomed')",
            "SELECT * FROM envelope_private.keys_return('doomed', '', '{1}', '{x}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                vault.db.sql(statement, user="owner")


def test_erased_and_destroyed_deks_stay_dead(vault: Vault) -> None:
    file = vault.backup()
    vault.db.sql("CALL envelope.shred('card', NULL, 'asked for')")
    assert "2 of the backup are destroyed by now" in vault.done("keys-backup", "verify", file).out
    assert "1 DEKs are back" in vault.done("keys-backup", "return", file, "--kek", "rescue", *vault.unlock).out
    # Also by the catalog of a day before: the broker's ledger remembers.
    vault.db.sql("UPDATE envelope_private.dek SET state = 'decrypt-only' WHERE state = 'destroyed'")
    result = vault.run("keys-backup", "return", file, "--kek", "rescue", *vault.unlock)
    assert result.code == 1
    assert "the key was destroyed" in result.err


class TestShares:
    def test_any_of_them_that_are_enough(self, vault: Vault, rows: Rows) -> None:
        told = vault.init("--shares", 3, "--threshold", 2).out
        shares = [line for line in told.splitlines() if len(line.split()) == 33]
        assert len(shares) == 3
        assert sorted(path.name for path in vault.safe.iterdir()) == ["break-glass.pub", "passphrase"]
        file = vault.backup()
        for kept in ((0, 1), (0, 2), (1, 2)):
            assert "all 3 DEKs open" in vault.done("keys-backup", "verify", file, *self.files(vault, shares, kept)).out
        result = vault.run("keys-backup", "verify", file, *self.files(vault, shares, (1,)))
        assert (result.code, "these shares do not make the key" in result.err) == (1, True)
        # A word of the list may be one of the message; two in a row are not.
        assert " ".join(shares[1].split()[7:9]) not in result.err
        vault.done("keys-backup", "return", file, "--kek", "rescue", *self.files(vault, shares, (2, 0)))
        assert rows() == VALUES

    @staticmethod
    def files(vault: Vault, shares: list[str], numbers: tuple[int, ...]) -> list[object]:
        words: list[object] = []
        for number in numbers:
            path = vault.safe / f"share-{number}"
            path.touch(mode=0o600)
            path.write_text(shares[number] + "\n")
            words += ["--shares-file", path]
        return words


class TestVerify:
    def test_what_a_backup_lacks(self, vault: Vault) -> None:
        file = vault.backup()
        assert "all 3 DEKs of the database" in vault.done("keys-backup", "verify", file).out
        assert "all 3 DEKs open to their fingerprints" in vault.done("keys-backup", "verify", file, *vault.unlock).out
        assert file.stat().st_mode & 0o777 == 0o600
        vault.db.sql("SELECT envelope.rotate('person')")
        result = vault.run("keys-backup", "verify", file)
        assert (result.code, "1 of 4 DEKs are missing: 4" in result.out) == (1, True)
        result = vault.run("keys-backup", "return", file, "--kek", "rescue", *vault.unlock)
        assert (result.code, "DEK 4: not in the backup" in result.err) == (1, True)

    def test_a_dek_that_cannot_be_had_is_told_of(self, vault: Vault) -> None:
        uuid = vault.db.one("SELECT database_uuid FROM envelope_private.installation")
        vault.stack.openbao.request("DELETE", f"kv/metadata/pg_envelope/{uuid}/1")
        vault.stack.broker.restart()
        result = vault.run("keys-backup", "make", "--out", vault.safe / "keys.jsonl")
        assert result.code == 1
        assert "1 DEKs are not in the backup, 2 are" in result.err
        assert len(Reader(vault.safe / "keys.jsonl").deks) == 2

    def test_another_database(self, vault: Vault, make_db: Callable[[], object]) -> None:
        file = vault.backup()
        stranger = make_db()
        stranger.sql("SELECT envelope.create_key('k')")  # type: ignore[attr-defined]
        result = vault.run("keys-backup", "verify", file, database=stranger)  # type: ignore[arg-type]
        assert (result.code, "the backup is of another database" in result.err) == (1, True)

    def test_another_key_or_passphrase(self, vault: Vault) -> None:
        file = vault.backup()
        vault.passphrase.write_text("not what it was at all\n")
        result = vault.run("keys-backup", "verify", file, "--offline", *vault.unlock)
        assert (result.code, "the passphrase does not open the key file" in result.err) == (1, True)
        other = X25519PrivateKey.generate()
        (vault.safe / "break-glass.key").write_bytes(break_glass.write(other, "not what it was at all", CHEAP))
        result = vault.run("keys-backup", "verify", file, "--offline", *vault.unlock)
        assert (result.code, "made for another break-glass key" in result.err) == (1, True)

    def test_nothing_is_overwritten(self, vault: Vault) -> None:
        file = vault.backup()
        before = file.read_bytes()
        assert vault.run("keys-backup", "make", "--out", file).code == 1
        assert vault.run("keys-backup", "init", "--out", vault.safe, "--passphrase-file", vault.passphrase).code == 1
        assert file.read_bytes() == before
