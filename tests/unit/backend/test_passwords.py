"""Argon2id and the comparison, outside the server."""

from __future__ import annotations

import pytest

from pg_envelope.backend import passwords

# From the reference implementation: password `password`, salt `somesalt`, 64 MiB, 2 passes, 1 lane.
OTHERS = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"


def test_a_hash_is_of_its_password_only() -> None:
    made = passwords.argon2id("Zoë")
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.is_argon2id("Zoë", made)
    assert not passwords.is_argon2id("Zoe", made)
    assert not passwords.is_argon2id("", made)


def test_two_hashes_of_a_password_differ() -> None:
    assert passwords.argon2id("same") != passwords.argon2id("same")


def test_reads_what_the_reference_implementation_writes() -> None:
    assert passwords.is_argon2id("password", OTHERS)


def test_no_threads_are_left_behind() -> None:
    with open("/proc/self/status") as status:
        before = [line for line in status if line.startswith("Threads")]
    passwords.argon2id("x")
    with open("/proc/self/status") as status:
        assert [line for line in status if line.startswith("Threads")] == before


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "$argon2id$",
        "$argon2id$v=19$m=8,t=1,p=1$$",
        "$argon2id$v=19$m=8,t=1,p=1$YWJjZGVmZ2g$YW",
        "$argon2id$v=16$m=65536,t=3,p=4$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$argon2id$v=19$m=0,t=0,p=0$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$argon2id$v=19$m=65536,t=3,p=4$!!!!$!!!!",
        OTHERS[:-1],
    ],
)
def test_what_is_no_hash_is_of_no_password(malformed: str) -> None:
    assert passwords.is_argon2id("password", malformed) is False


def test_same() -> None:
    assert passwords.same("é", "é")
    assert not passwords.same("a", "b")
    assert not passwords.same("a", "aa")
