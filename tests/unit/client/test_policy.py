"""The text of the broker's policy."""

from __future__ import annotations

import pytest

from pg_envelope_client.problems import Problem
from pg_envelope_client.setup.policy import Places, allows_shred, keys_of, text

PLACES = Places("transit", "kv", "pg_envelope")

GOLDEN = """\
# pg-envelope init: transit=transit kv=kv/pg_envelope
path "transit/keys/pg-envelope-default" { capabilities = ["read"] }
path "transit/keys/pg-envelope-default/rotate" { capabilities = ["update"] }
path "transit/datakey/wrapped/pg-envelope-default" { capabilities = ["update"] }
path "transit/encrypt/pg-envelope-default" { capabilities = ["update"] }
path "transit/decrypt/pg-envelope-default" { capabilities = ["update"] }
path "transit/rewrap/pg-envelope-default" { capabilities = ["update"] }
path "kv/data/pg_envelope/*" { capabilities = ["create", "read", "update"] }
path "kv/data/pg_envelope_anchor/*" { capabilities = ["create", "read"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""


def test_is_exactly_this() -> None:
    assert text(PLACES, ["pg-envelope-default"]) == GOLDEN


def test_order_and_repetition_do_not_matter() -> None:
    assert text(PLACES, ["b", "a", "b"]) == text(PLACES, ["a", "b"])


def test_keys_are_read_back() -> None:
    assert keys_of(PLACES, text(PLACES, ["a", "b"]), "p") == {"a", "b"}


@pytest.mark.parametrize("other", [Places("t2", "kv", "pg_envelope"), Places("transit", "kv", "staging")])
def test_a_policy_for_other_places_is_refused(other: Places) -> None:
    with pytest.raises(Problem, match="policy p exists"):
        keys_of(PLACES, text(other, ["a"]), "p")


def test_the_right_to_delete_keys_is_there_when_asked_for() -> None:
    plain, shredding = text(PLACES, ["a"]), text(PLACES, ["a"], allow_shred=True)
    assert set(shredding.splitlines()) - set(plain.splitlines()) == {
        'path "kv/metadata/pg_envelope/*" { capabilities = ["delete"] }'
    }
    assert [allows_shred(PLACES, policy) for policy in (plain, shredding)] == [False, True]
