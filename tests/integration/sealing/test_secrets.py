"""Secrets of the database, opened in the application."""

from __future__ import annotations

import pytest

from pg_envelope import errors
from pg_envelope_client import Secrets
from tests.integration.sealing.fix_door import DoorOfTests


@pytest.fixture
def stripe(door: DoorOfTests) -> DoorOfTests:
    """The secret `stripe`, which alice and `crm` may have."""
    door.db.sql("SELECT envelope.import_secret('stripe', 'sk_live_1'::text)")
    door.allow(door.db.one("SELECT envelope.grant_client_key('stripe', 'alice')"))
    return door


def test_the_newest_and_for_a_while_the_one_before(stripe: DoorOfTests) -> None:
    client = stripe.client()
    secrets = Secrets(client)
    assert (secrets["stripe"], secrets.valid("stripe")) == ("sk_live_1", [b"sk_live_1"])
    stripe.db.sql("SELECT envelope.replace_secret('stripe', 'sk_live_2'::text)")
    assert secrets["stripe"] == "sk_live_1", "it is kept for a while"
    secrets.forget()
    assert (secrets["stripe"], secrets.valid("stripe")) == ("sk_live_2", [b"sk_live_2", b"sk_live_1"])
    assert Secrets(client, grace_seconds=0).valid("stripe") == [b"sk_live_2"]
    stripe.db.sql("SELECT envelope.replace_secret('stripe', '\\x00ff'::bytea)")
    secrets.forget()
    assert secrets.content("stripe") == b"\x00\xff"
    with pytest.raises(errors.BadInput):
        _ = secrets["stripe"]


@pytest.mark.parametrize(("age", "valid"), [("23:55", [b"new", b"sk_live_1"]), ("24:05", [b"new"])])
def test_the_one_before_is_valid_for_24_hours(stripe: DoorOfTests, age: str, valid: list[bytes]) -> None:
    stripe.db.sql("SELECT envelope.replace_secret('stripe', 'new'::text)")
    stripe.db.sql("UPDATE envelope_private.secret SET created_at = now() - %s::interval WHERE version = 2", age)
    assert Secrets(stripe.client()).valid("stripe") == valid


def test_a_revocation_empties_the_cache(stripe: DoorOfTests) -> None:
    secrets = Secrets(stripe.client(), cache_seconds=3600)
    assert secrets["stripe"] == "sk_live_1"
    stripe.db.sql("SELECT envelope.replace_secret('stripe', 'sk_live_2'::text)")
    stripe.db.sql("SELECT envelope.flush('test')")
    assert secrets["stripe"] == "sk_live_2"
    stripe.db.sql("SELECT envelope.revoke_client_key('stripe', 'alice')")
    stripe.db.sql("SELECT envelope.flush('test')")
    with pytest.raises(errors.NotPermitted):
        _ = secrets["stripe"]


def test_nobody_else_gets_it(stripe: DoorOfTests) -> None:
    with pytest.raises(errors.NotPermitted):
        _ = Secrets(stripe.client("bob"))["stripe"]
    assert stripe.db.one("SELECT envelope_internal.client_secret('stripe')", user="bob") == []
    with pytest.raises(errors.NotPermitted):
        _ = Secrets(stripe.client())["nothing"]
    stripe.db.sql("SELECT envelope.create_key('empty')")
    stripe.db.sql("SELECT envelope.grant_client_key('empty', 'alice')")
    with pytest.raises(errors.KeyNotFound):
        _ = Secrets(stripe.client())["empty"]


def test_keys_change_under_a_running_application(door: DoorOfTests) -> None:
    db = door.db
    db.sql("SELECT envelope.import_secret('stripe', 'first'::text, store => 'catalog')")
    door.allow(db.one("SELECT envelope.grant_client_key('stripe', 'alice')"))
    db.sql("GRANT EXECUTE ON FUNCTION envelope.store_secret(text, integer, envelope.ciphertext) TO alice")
    secrets = Secrets(door.client(), cache_seconds=3600)
    assert secrets["stripe"] == "first"
    db.sql("SELECT envelope.rotate_key('stripe')")
    assert secrets.store("stripe", "second") == 2
    assert secrets.valid("stripe") == [b"second", b"first"]
    db.sql("CALL envelope.suspend_key('stripe', 'test')")
    refused(secrets, errors.KeySuspended)
    db.sql("CALL envelope.unsuspend_key('stripe')")
    assert secrets.valid("stripe") == [b"second", b"first"]
    db.sql("CALL envelope.shred_key('stripe', 'test')")
    refused(secrets, errors.KeyDestroyed)


def refused(secrets: Secrets, of: type[errors.EnvelopeError]) -> None:
    for call in (
        lambda: secrets["stripe"],
        lambda: secrets.valid("stripe"),
        lambda: secrets.content("stripe"),
        lambda: secrets.store("stripe", "third"),
    ):
        with pytest.raises(of):
            pytest.fail(f"gave {call()!r}")
