"""GnuPG reads what envelope_pgcrypto writes, and the other way round."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database

from .conftest import PASS, Gpg

TEXT = "Zoë and the others\n"
ENCRYPT = "SELECT envelope_pgcrypto.pgp_sym_encrypt(%s::text, envelope.secret('pass'), %s::text)"
# GnuPG marks what it seals as binary.
DECRYPT = "SELECT envelope_pgcrypto.pgp_sym_decrypt_bytea(%s::bytea, envelope.secret('pass'))"


@pytest.mark.parametrize(
    "options", ["", "cipher-algo=aes256", "cipher-algo=3des", "compress-algo=1", "compress-algo=2", "sess-key=1"]
)
def test_gpg_opens_what_a_named_secret_sealed(both: Database, gpg: Gpg, options: str) -> None:
    sealed = both.one(ENCRYPT, TEXT, options)
    assert gpg.run("--passphrase", PASS, "--decrypt", feed=sealed).decode() == TEXT


@pytest.mark.parametrize("cipher", ["AES", "AES192", "AES256", "3DES"])
def test_a_named_secret_opens_what_gpg_sealed(both: Database, gpg: Gpg, cipher: str) -> None:
    words = ("--passphrase", PASS, *gpg.old_ciphers, "--cipher-algo", cipher, "--symmetric", "--output", "-")
    assert both.one(DECRYPT, gpg.run(*words, feed=TEXT.encode())).decode() == TEXT


@pytest.mark.parametrize("name", ["rsa", "elgamal"])
def test_public_keys_both_ways(both: Database, gpg: Gpg, name: str) -> None:
    sealed = both.one("SELECT envelope_pgcrypto.pgp_pub_encrypt(%s::text, %s::bytea)", TEXT, gpg.public(name))
    assert gpg.run("--decrypt", feed=sealed).decode() == TEXT
    theirs = gpg.run("--trust-model", "always", "--recipient", name, "--encrypt", "--output", "-", feed=TEXT.encode())
    query = "SELECT envelope_pgcrypto.pgp_pub_decrypt_bytea(%s::bytea, %s::bytea)"
    assert both.one(query, theirs, gpg.secret(name)).decode() == TEXT


def test_a_secret_key_and_its_passphrase_by_name(both: Database, gpg: Gpg) -> None:
    both.sql("SELECT envelope.import_secret('openpgp', %s::bytea)", gpg.secret("locked", PASS))
    theirs = gpg.run(
        "--trust-model", "always", "--recipient", "locked", "--encrypt", "--output", "-", feed=TEXT.encode()
    )
    query = (
        "SELECT envelope_pgcrypto.pgp_pub_decrypt_bytea(%s::bytea, envelope.secret('openpgp'), envelope.secret('pass'))"
    )
    assert both.one(query, theirs).decode() == TEXT


def test_gpg_dearmors(both: Database, gpg: Gpg) -> None:
    armored = both.one(
        "SELECT envelope_pgcrypto.armor(envelope_pgcrypto.pgp_sym_encrypt(%s::text, envelope.secret('pass')),"
        " ARRAY['Comment'], ARRAY['made in a test'])",
        TEXT,
    )
    assert gpg.run("--passphrase", PASS, "--decrypt", feed=armored.encode()).decode() == TEXT
