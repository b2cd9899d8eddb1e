"""Hashes of the client, of Django and of the server are the same: each side verifies those of the others."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth import hashers

from pg_envelope import errors
from pg_envelope_client.passwords import PasswordHashes
from tests.fix_django import configure
from tests.fix_stack import Database

VERIFY = "SELECT envelope.verify_password(%s, %s)"
HASH = "SELECT envelope.hash_password(%s, %s)"
WEAK = "SELECT envelope_pgcrypto.crypt(%s, envelope_pgcrypto.gen_salt('bf', 4))"
PASSWORDS = ["correct horse", "Zoë 🐎", "", "x" * 72]
HASHER = "pg_envelope_client.django.hashers.EnvelopeHasher"


@pytest.fixture(scope="module", autouse=True)
def django() -> None:
    configure()


@pytest.fixture(autouse=True)
def _hashers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have configured Django, too."""
    monkeypatch.setattr(
        settings, "PASSWORD_HASHERS", [HASHER, "django.contrib.auth.hashers.PBKDF2PasswordHasher"], raising=False
    )
    hashers.get_hashers.cache_clear()
    hashers.get_hashers_by_algorithm.cache_clear()


@pytest.mark.parametrize("algorithm", ["bcrypt", "argon2id"])
def test_both_ways(db: Database, algorithm: str) -> None:
    ours = PasswordHashes(algorithm)
    for password in PASSWORDS:
        made, theirs = ours.hash(password), db.one(HASH, password, algorithm)
        assert [db.one(VERIFY, password, made), db.one(VERIFY, f"{password[:-1]}?", made)] == [True, False]
        assert [ours.verify(password, theirs), ours.verify(f"{password[:-1]}?", theirs)] == [True, False]
        for hash in (made, theirs):
            assert ours.needs_update(hash) is db.one("SELECT envelope.password_needs_rehash(%s)", hash) is False


def test_the_same_is_weak_malformed_and_too_costly(db: Database) -> None:
    bcrypt, argon = PasswordHashes().hash("x"), PasswordHashes("argon2id").hash("x")
    kept = db.one(WEAK, "x")
    odd = ["", "x", "$2b$12$short", bcrypt + "A", bcrypt[:-1], argon[:-3] + "===", "$argon2id$v=19$m=1,t=1,p=1$AA$AA"]
    odd += [bcrypt.replace("$12$", "$16$"), bcrypt.replace("$12$", "$03$"), argon.replace("m=65536", "m=999999999")]
    odd += [argon.replace("t=3", "t=65"), argon + "A" * 1000, f"\n{bcrypt}", f"{bcrypt}\n", kept]

    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except (errors.EnvelopeError, psycopg.Error) as error:
            return error.sqlstate

    for hash in odd:
        there = outcome(lambda hash=hash: db.one(VERIFY, "x", hash))  # type: ignore[misc]
        assert outcome(lambda hash=hash: PasswordHashes().verify("x", hash)) == there, hash  # type: ignore[misc]
        assert PasswordHashes().needs_update(hash) is db.one("SELECT envelope.password_needs_rehash(%s)", hash), hash
    for form in "aby":
        assert PasswordHashes().verify("x", f"$2{form}{bcrypt[3:]}")
    assert PasswordHashes().verify("a" * 80, db.one(WEAK, "a" * 72)) is db.one(VERIFY, "a" * 80, db.one(WEAK, "a" * 72))
    with pytest.raises(errors.Unsupported):
        PasswordHashes().verify("x", f"$2x{bcrypt[3:]}")


def test_a_weak_hash_is_made_anew(db: Database) -> None:
    weak = db.one(WEAK, "x")
    fits, new = PasswordHashes("argon2id").verify_and_update("x", weak)
    assert (fits, new is not None and PasswordHashes().verify("x", new)) == (True, True)
    assert PasswordHashes().verify_and_update("y", weak) == (False, None)
    assert PasswordHashes().verify_and_update("x", PasswordHashes().hash("x")) == (True, None)


@pytest.mark.parametrize("password", ["a\0b", "\ud800"])
def test_what_is_no_password(password: str) -> None:
    for algorithm in ("bcrypt", "argon2id"):
        with pytest.raises(errors.BadInput) as caught:
            PasswordHashes(algorithm).hash(password)
        assert "a\0b" not in str(caught.value)
    with pytest.raises(errors.BadInput):
        PasswordHashes().hash("x" * 73)
    with pytest.raises(errors.BadInput):
        PasswordHashes("md5")


def test_django_reads_and_writes_what_sql_does(db: Database) -> None:
    made = hashers.make_password("correct horse")
    assert made.startswith("$2b$12$")
    assert db.one(VERIFY, "correct horse", made)
    long = hashers.make_password("x" * 73)
    assert (long.startswith("$argon2id$"), db.one(VERIFY, "x" * 73, long)) == (True, True)
    theirs = db.one(HASH, "correct horse", "argon2id")
    for hash in (made, theirs):
        assert (hashers.check_password("correct horse", hash), hashers.check_password("other", hash)) == (True, False)
        assert hashers.is_password_usable(hash)
        assert "correct horse" not in str(hashers.identify_hasher(hash).safe_summary(hash))
    renewed: list[str] = []
    for old in (db.one(WEAK, "x"), hashers.make_password("x", hasher="pbkdf2_sha256")):
        assert hashers.check_password("x", old, setter=lambda password: renewed.append(password))
    assert renewed == ["x", "x"]
    assert hashers.check_password("x", made, setter=renewed.append) is False
    assert hashers.check_password("correct horse", made, setter=renewed.append)
    assert renewed == ["x", "x"]
