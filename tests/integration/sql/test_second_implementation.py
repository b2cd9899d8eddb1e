"""What the server wrote opens without the server: by FORMAT.md, the key catalog and the KMS alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from uuid import UUID

import pytest

from pg_envelope.suites import SUITES
from tests.fix_stack import Database
from tests.vectors import check_reads
from tests.vectors.check_envelopes import open_envelope, row_key_of
from tests.vectors.check_records import chain, hashed, public_of, verify
from tests.vectors.kdf import hkdf

DEK = """
SELECT d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint, fk.salt, i.database_uuid, i.environment
FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id) CROSS JOIN envelope_private.installation i
WHERE fk.key_id = %s"""
ACTIVE = "SELECT key_id FROM envelope_private.field_key WHERE state = 'active' AND field_uuid = %s"
FIELD = 'SELECT field_uuid FROM envelope.columns WHERE relation = %s::regclass AND "column" = %s'
NAMED = """
SELECT f.field_uuid FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid) WHERE k.name = %s"""


class Outside:
    """Opens envelopes with the rights of an administrator of KMS and database."""

    def __init__(self, db: Database) -> None:
        self._db, self._bao = db, db.stack.openbao

    def content(self, envelope: bytes, field: UUID, row_key: str) -> bytes:
        key = self.field_key(int.from_bytes(envelope[2:6], "big"), field)
        return open_envelope(envelope, key, field, row_key)

    def field_key(self, key_id: int, field: UUID) -> bytes:
        """Sections 2 and 3."""
        ((dek_id, kek, store, wrapped, fingerprint, salt, database, environment),) = self._db.sql(DEK, key_id)
        if store == "vault":
            entry = self._bao.request("GET", f"kv/data/pg_envelope/{database}/{dek_id}")["data"]["data"]
            assert (entry["kek"], entry["fingerprint"]) == (kek, fingerprint.hex())
            wrapped = entry["wrapped"]
        context = base64.b64encode(f"pg_envelope/1 {environment} {database} {dek_id}".encode()).decode()
        asked = {"ciphertext": wrapped, "context": context}
        answer = self._bao.request("POST", "transit/decrypt/pg-envelope-default", asked)
        dek = base64.b64decode(answer["data"]["plaintext"])
        assert hkdf(dek, b"", b"pg_envelope/1 fingerprint" + dek_id.to_bytes(8, "big"), 16) == fingerprint
        return hkdf(dek, salt, b"pg_envelope/1 field" + field.bytes + key_id.to_bytes(4, "big"), 32)


@pytest.fixture
def outside(db: Database) -> Outside:
    return Outside(db)


def test_columns_of_each_suite_and_store(db: Database, outside: Outside) -> None:
    db.sql("CREATE DOMAIN raw AS bytea; CREATE DOMAIN rawer AS raw")
    kinds = {f"v{suite}{'p' * pad}": (suite, pad) for suite in SUITES for pad in (False, True)}
    for store in ("vault", "catalog"):
        columns = ", ".join(f"{name} {'text' if 'p' in name else 'rawer'}" for name in kinds)
        db.sql(f"CREATE TABLE {store} (id rawer, n numeric(10,2), {columns}, PRIMARY KEY (id, n))")
        options = json.dumps(
            {
                name: {"suite": suite, "pad": pad, "bind": "column" if suite == 4 else "row"}
                for name, (suite, pad) in kinds.items()
            }
        )
        db.sql("CALL envelope.protect(%s::regclass, %s::jsonb, store => %s)", store, options, store)
        for name in kinds:
            value = "'Zoë'" if "p" in name else r"'\x5a6fc3ab'"
            db.sql(f"INSERT INTO {store} (id, n, {name}) VALUES ('\\x00ff', {kinds[name][0]}, {value})")
            found = db.one(f"SELECT {name} FROM {store}_encrypted WHERE {name} IS NOT NULL")
            bound = "" if kinds[name][0] == 4 else row_key_of([r"\x00ff", f"{kinds[name][0]}.00"])
            assert outside.content(found, db.one(FIELD, store, name), bound) == "Zoë".encode()
            db.sql(f"DELETE FROM {store}")


@pytest.mark.parametrize("scope", ["tenant", "subject"])
def test_keys_of_tenants_and_subjects(db: Database, outside: Outside, scope: str) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, bound text, loose text)")
    options = '{"bound": {}, "loose": {"bind": "column"}}'
    db.sql(f"CALL envelope.protect('visit', %s::jsonb, scope => '{scope}', scope_column => 'person')", options)
    db.sql("INSERT INTO visit VALUES (7, 'Zoë', 'one', 'two')")
    ((bound, loose),) = db.sql("SELECT bound, loose FROM visit_encrypted")
    assert bound[2:6] == loose[2:6]
    assert outside.content(bound, db.one(FIELD, "visit", "bound"), "3:Zoë1:7") == b"one"
    assert outside.content(loose, db.one(FIELD, "visit", "loose"), "Zoë") == b"two"


def test_named_keys_and_secrets(db: Database, outside: Outside) -> None:
    db.sql("SELECT envelope.create_key('crm')")
    for value, context in (("'Zoë'::text", "invoice 7"), (r"'\x5a6fc3ab'::bytea", "")):
        found = db.one(f"SELECT envelope.encrypt({value}, 'crm', %s)", context)
        assert outside.content(found, db.one(NAMED, "crm"), context) == "Zoë".encode()
    db.sql("SELECT envelope.import_secret('pii', 'first'::text)")
    db.sql("SELECT envelope.replace_secret('pii', 'second'::text)")
    kept = db.sql("SELECT version, sealed FROM envelope_private.secret ORDER BY version")
    opened = [outside.content(sealed, db.one(NAMED, "pii"), f"secret {version}") for version, sealed in kept]
    assert opened == [b"first", b"second"]


# Type, values that are equal, and their equality text: FORMAT.md section 8.
EQUAL: list[tuple[str, list[str], str]] = [
    ("text", ["Zoë "], "Zoë "),
    ("char(5)", ["ab", "ab  "], "ab"),
    ("numeric", ["1.5", "1.500"], "1.5"),
    ("double precision", ["0", "-0", "0e5"], "0"),
    ("real", ["1e-7"], "1e-07"),
    ("bytea", [r"\x00FF"], "00ff"),
    ("cidr", ["10.0.0.1/32"], "10.0.0.1"),
    ("inet", ["10.0.0.1", "10.0.0.1/32"], "10.0.0.1"),
    ("boolean", ["yes"], "t"),
    ("bigint", ["7", "007"], "7"),
    ("uuid", ["6BA7B8109DAD11D180B400C04FD430C8"], "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    ("timestamptz", ["2026-01-02 03:04+02", "2026-01-02 01:04Z"], "2026-01-02 01:04:00+00"),
    ("date", ["0044-3-15 BC"], "0044-03-15 BC"),
    ("mood", ["fine"], "fine"),
    ("short", ["7"], "7"),
]


def test_search_tokens_of_each_type(db: Database, outside: Outside) -> None:
    db.sql("CREATE TYPE mood AS ENUM ('fine'); CREATE DOMAIN short AS int2")
    names = [f"v{number}" for number in range(len(EQUAL))]
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in zip(names, EQUAL, strict=True))
    db.sql(f"CREATE TABLE t (id serial PRIMARY KEY, {columns})")
    db.sql(
        "CALL envelope.protect('t', %s::jsonb)",
        json.dumps({name: {"search": {"exact": {"force": True}}} for name in names}),
    )
    for name, (kind, values, text) in zip(names, EQUAL, strict=True):
        for value in values:
            db.sql(f"INSERT INTO t ({name}) VALUES (%s::{kind})", value)
        field = db.one("SELECT search_uuid FROM envelope_private.search WHERE attname = %s", f"{name}_search")
        found = {token for (token,) in db.sql(f"SELECT {name}_search::text FROM t_encrypted WHERE {name} IS NOT NULL")}
        assert found == {token(outside, db, field, "exact/1", text)}, kind


def test_a_token_of_a_normaliser(db: Database, outside: Outside) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('person', '{"email": {"search": {"exact": {"normalize": "email"}}}}')""")
    db.sql("INSERT INTO person VALUES (1, ' Ada@Example.ORG ')")
    field = db.one("SELECT search_uuid FROM envelope_private.search")
    found = db.one("SELECT email_search::text FROM person_encrypted")
    assert found == token(outside, db, field, "email/1", "ada@example.org")


def token(outside: Outside, db: Database, field: UUID, normaliser: str, content: str) -> str:
    """As the server writes it."""
    key = outside.field_key(db.one(ACTIVE, field), field)
    message = f"pg_envelope/1 token\0{normaliser}\0{content}".encode()
    return f"\\x{hmac.digest(key, message, hashlib.sha256)[:16].hex()}"


def test_a_receipt(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c')")
    db.sql("SELECT envelope.receipt('person')")
    ((text, signature, public),) = db.sql("SELECT statement, signature, public_key FROM envelope_private.receipt")
    assert db.sql("SELECT public_key FROM envelope.signing_keys()") == [(public,)]
    verify(public, signature, text.encode())
    found = json.loads(text)
    assert json.dumps(found, sort_keys=True, separators=(",", ":")) == text
    assert found["statement"]["what"] == "reencrypt"
    (field,) = found["statement"]["fields"]
    assert set(field) == {"column", "field", "zero_below", "left", "keys"}


def test_a_tombstone_is_the_ledger_s_entry(db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("""CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'person')""")
    db.sql("INSERT INTO visit VALUES (7, 'Zoë', 'one')")
    db.sql("CALL envelope.shred('visit', 'Zoë', 'asked for')")
    path = db.stack.broker.erasures
    public = public_of(bytes.fromhex(path.with_name(f"{path.name}.key").read_text()))
    entries = chain(path.read_bytes().splitlines(), public)
    told = "dek_id, encode(fingerprint, 'hex'), kek, store, kek_version, encode(subject, 'hex'), encode(salt, 'hex')"
    ((*dek, subject, salt, line),) = db.sql(f"SELECT {told}, ledger_line FROM envelope_private.tombstone")
    entry = entries[line - 1]
    assert entry["deks"] == [dek]
    assert (entry["subject"], entry["salt"], entry["reason"]) == (subject, salt, "asked for")
    assert hashed(salt, "Zoë") == subject


def test_the_ledger_of_reads(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('person', '{"email": {"audit": "sync"}}')""")
    db.sql("INSERT INTO person VALUES (42, 'a@b.c')")
    statement = "SELECT email FROM person"
    field, pid = db.one(FIELD, "person", "email"), db.admin.info.backend_pid
    assert db.one(statement) == "a@b.c"
    path = db.stack.broker.erasures.with_name("reads.jsonl")
    # Before the lines: the broker may sign more of them meanwhile.
    signed = check_reads.notes(path.with_name(f"{path.name}.checkpoints").read_text())
    content = path.read_bytes()
    lines = content[: content.rindex(b"\n")].split(b"\n")
    check_reads.numbered(map(json.loads, lines))
    (found,) = [entry for entry in map(json.loads, lines) if entry.get("field") == str(field)]
    seed = bytes.fromhex(path.with_name(f"{path.name}.key").read_text())
    key = hkdf(seed, b"", b"pg_envelope/1 statement", 32)
    assert found["statement"] == hmac.digest(key, statement.encode(), hashlib.sha256).hex()
    assert (found["pid"], found["table"], found["column"]) == (pid, "public.person", "email")
    names = {"event", "timestamp", *check_reads.FROM_SESSION, "database", "ip", "pid", "ring", "seq", "count", "rows"}
    assert found.keys() == names - {"key", "continues", "rows"}
    origin = "pg_envelope/default"
    public = check_reads.public_key(path.with_name(f"{path.name}.pub").read_text(), origin)
    sizes = [check_reads.check_note(note, origin, public, lines) for note in signed]
    assert sizes
    assert sizes == sorted(sizes)
