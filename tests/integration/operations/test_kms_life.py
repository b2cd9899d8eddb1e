"""OpenBao sealed, killed, its token, policy or key versions taken away: what SQL users see, and that all recovers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database

from .fix_kms_life import POLICY, READ, answers, failure, refusal

WAIT = 60
INSERT = "INSERT INTO person VALUES (3, 'new')"

OUTAGES: dict[str, tuple[Callable[[Stack], None], Callable[[Stack], None], str, str]] = {
    "sealed": (lambda s: s.openbao.seal(), lambda s: s.openbao.unseal(), "the KMS is sealed", "Unseal it"),
    "killed": (lambda s: s.openbao.kill(), lambda s: s.openbao.start(), "the KMS does not answer", "Is the KMS up"),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_reads_and_writes_go_on_within_the_grace(patient: Stack, people: Database, outage: str) -> None:
    down, *_ = OUTAGES[outage]
    assert answers(people.connect())
    down(patient)
    other = people.connect()
    assert answers(other), "a new session reads from the broker's cache"
    other.execute(INSERT)
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",), ("new",)]


@pytest.mark.parametrize("outage", OUTAGES)
def test_after_the_grace_they_fail_closed_and_then_recover(quick: Stack, people: Database, outage: str) -> None:
    down, up, message, hint = OUTAGES[outage]
    warm, other = people.connect(), people.connect()
    assert answers(warm)
    down(quick)
    # A first look can run out of time while OpenBao seals.
    wait_until(lambda: message in refusal(warm) and message in refusal(other), WAIT, "the end of the grace")
    for session in (warm, other, people.connect()):
        sqlstate, text, told = failure(session, READ)
        assert (sqlstate, text) == ("58000", f"pg_envelope: {message}")
        assert hint in told
    assert failure(other, "INSERT INTO person VALUES (4, 'never')")[0] == "58000"
    up(quick)
    wait_until(lambda: answers(warm) and answers(other), WAIT, "recovery")
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]


def test_warm_sessions_and_cached_keys_need_no_kms(breakable: Stack, people: Database) -> None:
    """With the usual times to live, new sessions too: the broker holds the key."""
    breakable.openbao.seal()
    people.sql(INSERT)
    assert people.sql(READ, user="postgres") == [("a@b.c",)]


def test_a_revoked_token_is_replaced_by_a_new_login(quick: Stack, people: Database) -> None:
    quick.openbao.request("PUT", "sys/leases/revoke-prefix/auth/approle/login", {"sync": True})
    people.sql("SELECT envelope.rotate('person')")
    people.sql(INSERT)
    wait_until(lambda: answers(people.admin), WAIT, "a new login")


def test_a_policy_taken_away_ends_reading_without_a_grace(patient: Stack, people: Database) -> None:
    warm = people.connect()
    assert answers(warm)
    policy = patient.openbao.request("GET", POLICY)["data"]["policy"]
    patient.openbao.request("PUT", POLICY, {"policy": 'path "none" { capabilities = ["read"] }'})
    wait_until(lambda: not answers(warm), WAIT, "the end of the right")
    sqlstate, text, hint = failure(warm, READ)
    assert (sqlstate, text) == ("58000", "pg_envelope: the KMS refused the broker's login or request")
    assert "policy" in hint
    patient.openbao.request("PUT", POLICY, {"policy": policy})
    wait_until(lambda: answers(warm), WAIT, "the right's return")


def test_a_new_kek_version_is_used_and_an_old_one_still_opens(breakable: Stack, people: Database) -> None:
    breakable.openbao.request("POST", "transit/keys/pg-envelope-default/rotate")
    people.sql("SELECT envelope.rotate('person')")
    people.sql(INSERT)
    people.sql("SELECT envelope.flush('test')")
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",), ("new",)]
    versions = [row[0] for row in people.sql("SELECT kek_version FROM envelope.keys ORDER BY version")]
    assert versions[1] == versions[0] + 1


def test_a_kek_version_that_may_no_longer_decrypt_is_a_clear_error(breakable: Stack, people: Database) -> None:
    old = people.one("SELECT kek_version FROM envelope.keys")
    breakable.openbao.request("POST", "transit/keys/pg-envelope-default/rotate")
    settings = "transit/keys/pg-envelope-default/config"
    breakable.openbao.request("POST", settings, {"min_decryption_version": old + 1})
    try:
        people.sql("SELECT envelope.flush('test')")
        sqlstate, text, hint = failure(people.admin, READ)
        assert (sqlstate, text) == ("XX001", "pg_envelope: a wrapped DEK cannot be unwrapped")
        assert "KEK version was removed" in hint
    finally:
        breakable.openbao.request("POST", settings, {"min_decryption_version": 1})
    people.sql("SELECT envelope.flush('test')")
    assert people.sql(READ) == [("a@b.c",)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT envelope.rotate('person')",
        "SELECT envelope.rotate_key('k')",
        "SELECT envelope.create_key('new')",
        """CALL envelope.protect('plain', '["email"]')""",
    ],
)
def test_new_keys_while_the_kms_is_sealed_are_refused_and_nothing_changes(
    breakable: Stack, people: Database, statement: str
) -> None:
    people.sql("CREATE TABLE plain (id int PRIMARY KEY, email text)")
    people.sql("SELECT envelope.create_key('k')")
    catalog = """SELECT (SELECT json_agg(k) FROM envelope_private.key k),
        (SELECT json_agg(d) FROM envelope_private.dek d), (SELECT json_agg(f) FROM envelope_private.field_key f),
        (SELECT json_agg(c) FROM envelope_private.capability c)"""
    before = people.sql(catalog)
    breakable.openbao.seal()
    sqlstate, text, hint = failure(people.admin, statement)
    assert (sqlstate, text) == ("58000", "pg_envelope: the KMS is sealed")
    assert "bao operator unseal" in hint
    assert people.sql(catalog) == before
    people.sql(INSERT)
    breakable.openbao.unseal()
    wait_until(lambda: answers(people.admin, statement), WAIT, "recovery")


def test_a_rolled_back_key_leaves_only_an_id_behind(people: Database) -> None:
    """Its wrapped DEK stays in the KMS, unused; nothing that is committed depends on it."""
    with people.connect(autocommit=False) as connection:
        connection.execute("SELECT envelope.rotate('person')")
        connection.execute(INSERT)
        connection.rollback()
    assert people.sql(READ) == [("a@b.c",)]
    people.sql(INSERT)
    assert people.one("SELECT envelope.rotate('person')") == 2
    assert people.sql("SELECT dek_id FROM envelope.keys ORDER BY version") == [(1,), (3,)]


def test_an_id_whose_key_is_in_the_store_already_is_passed_over(people: Database) -> None:
    """As after a crash that lost the sequence's last step, or a restored backup."""
    people.one("SELECT envelope.rotate('person')")
    people.sql("SELECT setval('envelope_private.dek_id_seq', 1, false)")
    people.sql("SELECT envelope.create_key('k')")
    assert people.one("SELECT dek_id FROM envelope.keys WHERE name = 'k'") == 3
    assert people.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]
