"""Altered and moved envelopes: one error, whatever was done to them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database, Fill
from tests.security.fix_people import BAD_ENVELOPE, DENIED, Failure, failure, make_people, protect, stored, value

DECRYPT = """SELECT envelope_internal.decrypt_text(%s, (
    SELECT c.capability FROM envelope_private.capability c JOIN envelope.columns f USING (field_uuid)
    WHERE f.relation = 'people'::regclass AND f."column" = %s), %s)"""
BAD = (
    BAD_ENVELOPE,
    "pg_envelope: the envelope cannot be opened",
    None,
    "It was altered or moved, or it belongs to another row, column, database or key.",
)


@pytest.fixture
def people(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(make_people)


def refused(db: Database, envelope: bytes, column: str = "email", row: str = "1") -> tuple[str | None, ...]:
    return failure(db.admin, DECRYPT, envelope, column, row).public()


LEAST = {1: 34, 2: 46, 3: 34, 4: 22, 5: 34}


def is_envelope(candidate: bytes) -> bool:
    """FORMAT.md section 1, as the domain checks it."""
    suite = candidate[1] & 0x7F
    is_text = candidate[1] == 0x84 and 0x80 <= candidate[2] <= 0xBF
    return candidate[0] == 0xE1 and suite in LEAST and len(candidate) >= LEAST[suite] and not is_text


def flipped(envelope: bytes) -> Iterator[bytes]:
    for position in range(len(envelope)):
        for bit in (0x01, 0x80):
            yield envelope[:position] + bytes([envelope[position] ^ bit]) + envelope[position + 1 :]


def test_every_byte_flipped(people: Database) -> None:
    envelope = stored(people)
    outcomes = {candidate: refused(people, candidate) for candidate in flipped(envelope)}
    assert {outcome for candidate, outcome in outcomes.items() if is_envelope(candidate)} == {BAD}
    assert {outcome[0] for candidate, outcome in outcomes.items() if not is_envelope(candidate)} == {"23514"}


def test_every_length(people: Database) -> None:
    envelope = stored(people)
    cut = [envelope[:length] for length in range(len(envelope))]
    assert {refused(people, candidate)[0] for candidate in cut if len(candidate) < 34} == {"23514"}
    assert {refused(people, candidate) for candidate in cut if len(candidate) >= 34} == {BAD}
    assert {refused(people, envelope + extra) for extra in (b"\0", b"\x80", os.urandom(16), envelope)} == {BAD}


def test_every_suite_byte(people: Database) -> None:
    envelope = stored(people) + bytes(20)
    candidates = [envelope[:1] + bytes([suite]) + envelope[2:] for suite in range(256)]
    assert {refused(people, candidate) for candidate in candidates if is_envelope(candidate)} == {BAD}
    assert {refused(people, candidate)[0] for candidate in candidates if not is_envelope(candidate)} == {"23514"}


def test_key_ids_of_others(people: Database) -> None:
    people.sql("SELECT envelope.create_key('other')")
    people.sql("SELECT envelope.rotate('people')")
    envelope = stored(people)
    mine = int.from_bytes(envelope[2:6], "big")
    ids = [0, 2**32 - 1, 4096] + [key for (key,) in people.sql("SELECT key_id FROM envelope_private.field_key")]
    candidates = [envelope[:2] + key.to_bytes(4, "big") + envelope[6:] for key in ids if key != mine]
    assert {refused(people, candidate) for candidate in candidates} == {BAD}


def test_splices_of_two_envelopes(people: Database) -> None:
    one, two = stored(people, row=1), stored(people, row=2)
    for cut in range(7, len(one)):
        for head, tail in ((one, two), (two, one)):
            assert refused(people, head[:cut] + tail[cut:]) == BAD


@pytest.mark.parametrize("bind", ["row", "column"])
def test_padded_envelopes_are_no_oracle(db: Database, bind: str) -> None:
    db.sql("CREATE TABLE people (id int PRIMARY KEY, email text)")
    db.sql("INSERT INTO people VALUES (1, 'ann@example.org')")
    protect(db, "people", f'{{"email": {{"pad": true, "bind": "{bind}"}}}}')
    assert {refused(db, candidate) for candidate in flipped(stored(db)) if is_envelope(candidate)} == {BAD}


def select_fails(db: Database) -> tuple[str | None, ...]:
    return failure(db.admin, "SELECT email FROM people WHERE id = 1").public()


def test_swapped_between_rows(people: Database) -> None:
    people.sql("UPDATE people_encrypted SET email = %s WHERE id = 1", stored(people, row=2))
    assert select_fails(people) == BAD


def test_swapped_between_columns(people: Database) -> None:
    people.sql("UPDATE people_encrypted SET email = phone WHERE id = 1")
    assert select_fails(people) == BAD


def test_swapped_between_tables(people: Database) -> None:
    make_people(people, "others")
    people.sql("UPDATE people_encrypted SET email = %s WHERE id = 1", stored(people, table="others"))
    assert select_fails(people) == BAD


def test_swapped_between_databases_of_one_kms(people: Database, make_db: Callable[[], Database]) -> None:
    other = make_db()
    make_people(other)
    theirs = stored(other)
    assert theirs[:6] == stored(people)[:6], "the same key id in both, or the test proves less"
    people.sql("UPDATE people_encrypted SET email = %s WHERE id = 1", theirs)
    assert select_fails(people) == BAD


def test_a_wrapped_key_moved_to_another_place_opens_nothing(db: Database, make_db: Callable[[], Database]) -> None:
    """A wrapped DEK opens in the database and under the id that it was made for, and nowhere else."""
    other = make_db()
    for database in (db, other):
        database.sql(
            "SELECT envelope.create_key('k', 'default', 'catalog'), envelope.create_key('l', store => 'catalog')"
        )
    wrapped, fingerprint = db.sql("SELECT wrapped, fingerprint FROM envelope_private.dek WHERE dek_id = 1")[0]
    for database, dek_id in ((other, 1), (db, 2)):
        database.sql(
            "UPDATE envelope_private.dek SET wrapped = %s, fingerprint = %s WHERE dek_id = %s",
            wrapped,
            fingerprint,
            dek_id,
        )
        error = failure(database.admin, "SELECT envelope.encrypt('x', %s)", "kl"[dek_id - 1])
        assert (error.sqlstate, error.message) == (BAD_ENVELOPE, "pg_envelope: a wrapped DEK cannot be unwrapped")
    assert value(db.admin, "SELECT envelope.decrypt(envelope.encrypt('x', 'k'))") == "x"


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize(
    "plaintext", ["ann@example.org", "", "ᄁ" * 20, unicodedata.normalize("NFD", "풀어 쓴 한글 " * 9), "x" * 1000]
)
def test_plaintext_cannot_be_stored_by_mistake(people: Database, role: str, plaintext: str) -> None:
    people.sql(f"SET session_replication_role = {role}")
    for statement in (
        "UPDATE people_encrypted SET email = %s WHERE id = 1",
        "INSERT INTO people_encrypted (id, email) VALUES (9, %s)",
    ):
        error = failure(people.admin, statement, plaintext.encode())
        assert error.sqlstate == "23514"
        assert not plaintext or plaintext not in error.everything


def test_plaintext_cannot_be_copied_in(people: Database) -> None:
    people.sql("SET session_replication_role = replica")
    with (
        pytest.raises(psycopg.errors.CheckViolation),
        people.admin.cursor().copy("COPY people_encrypted (id, email) FROM STDIN") as copy,
    ):
        copy.write_row((9, b"ann@example.org"))


class TestNamedKeys:
    """The same for encrypt() and decrypt()."""

    @pytest.fixture
    def envelope(self, db: Database) -> bytes:
        db.sql("SELECT envelope.create_key('k'), envelope.create_key('l')")
        return bytes(db.one("SELECT envelope.encrypt('ann', 'k', 'ctx')"))

    def refused(self, db: Database, envelope: bytes, context: str = "ctx") -> Failure:
        return failure(db.admin, "SELECT envelope.decrypt(%s, %s)", envelope, context)

    def test_every_byte_flipped(self, db: Database, envelope: bytes) -> None:
        for candidate in flipped(envelope):
            if is_envelope(candidate):
                assert self.refused(db, candidate).public() == BAD, candidate.hex()

    def test_another_context(self, db: Database, envelope: bytes) -> None:
        assert value(db.admin, "SELECT envelope.decrypt(%s, 'ctx')", envelope) == "ann"
        for context in ("", "ctx ", "CTX", "ct"):
            assert self.refused(db, envelope, context).public() == BAD

    def test_two_keys_swapped(self, db: Database, envelope: bytes) -> None:
        other = bytes(db.one("SELECT envelope.encrypt('ann', 'l', 'ctx')"))
        assert self.refused(db, envelope[:6] + other[6:]).public() == BAD
        assert self.refused(db, other[:6] + envelope[6:]).public() == BAD

    def test_a_column_is_no_named_key(self, people: Database) -> None:
        assert self.refused(people, stored(people), "1").sqlstate == DENIED


def test_no_error_tells_a_value(people: Database) -> None:
    """Also where the altered envelope meets the type of its column."""
    secrets: list[Any] = [row[1] for row in people.sql("SELECT * FROM people WHERE email IS NOT NULL")]
    people.sql("UPDATE people_encrypted SET email = phone WHERE id = 1")
    error = failure(people.admin, "SELECT * FROM people")
    assert not any(secret in error.everything for secret in secrets)
