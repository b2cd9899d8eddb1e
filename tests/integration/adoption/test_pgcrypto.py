"""Every option of pgp_sym_encrypt: the reader gives what pgcrypto gives, and pgcrypto reads what the writer wrote."""

from __future__ import annotations

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_envelope import errors
from pg_envelope.foreign.keys import LegacyKey, parse
from pg_envelope.foreign.presets import reader_of
from pg_envelope.foreign.reader import is_text
from pg_envelope.foreign.writers import writer_of
from tests.fix_stack import Database
from tests.unit.foreign.fix_cases import FOLDER

# Without OpenSSL's legacy provider, pgcrypto writes `bf` and `cast5` without any encryption. gpg's messages are read in
# tests/unit/foreign/test_openpgp.py.
PUB = ("pgp_pub", "pgp_pub_crlf")
OPTIONS = {
    "cipher-algo": ["aes128", "aes192", "aes256", "3des"],
    "compress-algo": ["0", "1", "2"],
    "compress-level": ["1", "9"],
    "convert-crlf": ["0", "1"],
    "disable-mdc": ["0", "1"],
    "sess-key": ["0", "1"],
    "s2k-mode": ["0", "1", "3"],
    "s2k-digest-algo": ["md5", "sha1"],
    "s2k-cipher-algo": ["aes128", "aes256"],
    "unicode-mode": ["0", "1"],
}
CHOSEN = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in OPTIONS.items()})
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=300)
PHRASES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
SEAL = "SELECT envelope_pgcrypto.pgp_sym_encrypt(%s, %s, %s)"
OPEN = "SELECT envelope_pgcrypto.pgp_sym_decrypt(%s, %s, %s)"


@settings(max_examples=200)
@given(CHOSEN, TEXTS, PHRASES)
def test_every_option(shared_db: Database, chosen: dict[str, str], text: str, phrase: str) -> None:
    """Both read the same. Without a check (MDC), a text with control characters counts as an altered value."""
    options = ", ".join(f"{name}={value}" for name, value in chosen.items())
    converts = chosen.get("convert-crlf") == "1"
    sealed = shared_db.one(SEAL, text, phrase, options)
    form = "pgp_sym_unchecked" if chosen.get("disable-mdc") == "1" else "pgp_sym_crlf" if converts else "pgp_sym"
    found = ours(form, sealed, phrase)
    assert (found is None) == (cannot_be_read(chosen) or (form == "pgp_sym_unchecked" and not is_text(text.encode())))
    assert cannot_be_read(chosen) == (theirs(shared_db, form, sealed, phrase) is None)
    if found is not None:
        assert found == theirs(shared_db, form, sealed, phrase)
        assert found.replace("\r\n", "\n") == text


def cannot_be_read(chosen: dict[str, str]) -> bool:
    """Without a session key pgcrypto encrypts by cipher-algo, and names s2k-cipher-algo, which is always an AES here.
    The length of the key tells one AES from another.
    """
    mixed = chosen.get("cipher-algo") == "3des" and "s2k-cipher-algo" in chosen
    return mixed and chosen.get("sess-key", "0") == "0"


def ours(form: str, sealed: bytes, phrase: str) -> str | None:
    try:
        return reader_of(form, LegacyKey("text", (phrase.encode(),))).open(sealed).decode()
    except errors.InvalidEnvelope:
        return None


def theirs(db: Database, form: str, sealed: bytes, phrase: str) -> str | None:
    try:
        return str(db.one(OPEN, sealed, phrase, f"convert-crlf={int(form == 'pgp_sym_crlf')}"))
    except psycopg.errors.ExternalRoutineInvocationException:
        return None


@settings(max_examples=50)
@given(TEXTS, PHRASES)
def test_pgcrypto_reads_what_export_writes(shared_db: Database, text: str, phrase: str) -> None:
    written = writer_of("pgp_sym", LegacyKey("text", (phrase.encode(),)))(text)
    assert shared_db.one(OPEN, written, phrase, "") == text


@settings(max_examples=10)
@given(TEXTS)
def test_line_ends_of_public_keys(shared_db: Database, text: str) -> None:
    public, private = (FOLDER / "pgp.pub").read_bytes(), (FOLDER / "pgp.sec").read_bytes()
    seal = "SELECT envelope_pgcrypto.pgp_pub_encrypt(%s, %s, 'convert-crlf=1')"
    value = shared_db.one(seal, text, public)
    found = {form: reader_of(form, parse("openpgp-armored", private)).open(value).decode() for form in PUB}
    assert found == {"pgp_pub": text.replace("\n", "\r\n"), "pgp_pub_crlf": text}
