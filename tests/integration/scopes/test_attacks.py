"""What a writer of the base table, and a role without rights, get from keys of tenants and subjects: nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database, Fill

BINDINGS = ["row", "column"]


@functools.cache
def fill(bind: str) -> Fill:
    """Makes visit (id, person, note), where each of two persons has a key, bound either way."""

    def make(db: Database) -> None:
        db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
        db.sql("INSERT INTO visit VALUES (1, 'ann', 'one'), (2, 'ben', 'two')")
        columns = f'{{"note": {{"bind": "{bind}"}}}}'
        db.sql("CALL envelope.protect('visit', %s::jsonb, scope => 'subject', scope_column => 'person')", columns)

    return make


@pytest.fixture(params=BINDINGS)
def visits(filled: Callable[[Fill], Database], request: pytest.FixtureRequest) -> Database:
    """A copy, for tests that destroy no key."""
    return filled(fill(request.param))


def test_an_envelope_in_another_subjects_row_does_not_open(visits: Database) -> None:
    visits.sql("UPDATE visit_encrypted SET note = (SELECT note FROM visit_encrypted WHERE id = 1) WHERE id = 2")
    with pytest.raises(psycopg.errors.DataCorrupted):
        visits.sql("SELECT note FROM visit WHERE id = 2")


@pytest.mark.parametrize("bind", BINDINGS)
def test_a_row_given_to_another_subject_in_the_base_table_is_sealed_under_that_ones_key(
    db: Database, bind: str
) -> None:
    fill(bind)(db)
    before = db.one("SELECT note FROM visit_encrypted WHERE id = 1")
    db.sql("UPDATE visit_encrypted SET person = 'ben' WHERE id = 1")
    assert db.sql("SELECT person, note FROM visit WHERE id = 1") == [("ben", "one")]
    assert db.one("SELECT note FROM visit_encrypted WHERE id = 1")[:6] != before[:6]
    db.sql("CALL envelope.shred('visit', 'ben', 'test')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        db.sql("SELECT note FROM visit WHERE id = 1")


def test_a_row_given_to_another_subject_behind_the_guard_does_not_open(visits: Database) -> None:
    visits.sql("ALTER TABLE visit_encrypted DISABLE TRIGGER USER")
    visits.sql("UPDATE visit_encrypted SET person = 'ben' WHERE id = 1")
    visits.sql("ALTER TABLE visit_encrypted ENABLE TRIGGER USER")
    with pytest.raises(psycopg.errors.DataCorrupted):
        visits.sql("SELECT note FROM visit WHERE id = 1")
    assert visits.one("SELECT note FROM visit WHERE id = 2") == "two"


def test_a_role_without_select_gets_nothing_from_prefetch(visits: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        visits.sql("SELECT envelope.prefetch('visit', '{ann,ben}')", user="alice")
    visits.sql("GRANT SELECT (id, person) ON visit TO alice")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        visits.sql("SELECT envelope.prefetch('visit', '{ann,ben}')", user="alice")
    visits.sql("GRANT SELECT ON visit TO alice")
    assert visits.sql("SELECT envelope.prefetch('visit', '{ann,ben,nobody}')", user="alice") == [(2,)]


def test_prefetched_keys_serve_nobody_without_the_right(visits: Database) -> None:
    visits.sql("GRANT SELECT ON visit TO alice")
    alice = visits.connect("alice")
    alice.execute("SELECT envelope.prefetch('visit', '{ann}')")
    stored = visits.one("SELECT note FROM visit_encrypted WHERE id = 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("SELECT envelope_internal.decrypt_text(%s::bytea, %s, 'x')", (stored, bytes(16)))


def test_a_template_by_hand_makes_no_key(visits: Database) -> None:
    before = visits.one("SELECT count(*) FROM envelope_private.dek")
    alice = visits.connect("alice")
    for length in (16, 22, 38):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            alice.execute("SELECT envelope_internal.encrypt_text('x', %s, '1', 'eve')", (bytes(length),))
    for call in ("key_of_scope", "load_key"):
        with pytest.raises(psycopg.Error):
            alice.execute(f"SELECT envelope.{call}()")
    assert visits.one("SELECT count(*) FROM envelope_private.dek") == before


def test_a_writer_may_write_a_new_subject_and_read_nothing(visits: Database) -> None:
    visits.sql("GRANT INSERT ON visit TO alice")
    alice = visits.connect("alice")
    alice.execute("INSERT INTO visit VALUES (3, 'eve', 'three')")
    for table in ("visit", "visit_encrypted", "envelope_private.dek", "envelope_private.spare_dek"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            alice.execute(f"TABLE {table}")
    assert visits.one("SELECT note FROM visit WHERE id = 3") == "three"
