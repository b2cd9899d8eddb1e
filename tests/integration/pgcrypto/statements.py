"""Statements for pgcrypto, written from its documentation: every function, option and kind of bad input.

Each is one expression; what is random inside comes out as something that is not (a length, a round trip).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "SHA256", "sha3", "no such", "")
CIPHERS = ("bf", "blowfish", "aes", "rijndael", "des", "3des", "cast5", "no such", "")
MODES = (
    "",
    "-cbc",
    "-ecb",
    "-cfb",
    "-ctr",
    "-cbc/pad:pkcs",
    "-ecb/pad:none",
    "-cbc/pad:none",
    "/pad:odd",
    "-cbc/odd:1",
)
LENGTHS = (0, 1, 15, 16, 17, 100)
SALTS = ("bf", "xdes", "md5", "des", "sha256crypt", "sha512crypt", "no such", "")
# So many characters of a salt are not random.
ROUNDS_SHOWN = {"bf": 7, "xdes": 5, "des": 0}
HASHES = (
    "$2a$06$DCq7YPn5Rq63x1Lad4cll.",
    "$2x$06$/OK.fbVrR/bpIqNJ5ianF.",
    "$2b$06$DCq7YPn5Rq63x1Lad4cll.",
    "$2y$06$DCq7YPn5Rq63x1Lad4cll.",
    "$2a$03$DCq7YPn5Rq63x1Lad4cll.",
    "$2a$06$short",
    "$1$Szzz0yzz$",
    "$1$",
    "_J9..j2zz",
    "_/!!!!!!!",
    "_J9",
    "NB",
    "a",
    "",
    "$5$rounds=1400$anotherlongsaltstring",
    "$6$saltstring",
    "$9$",
)
OPTIONS = (
    "cipher-algo=bf",
    "cipher-algo=aes",
    "cipher-algo=aes128",
    "cipher-algo=aes192",
    "cipher-algo=aes256",
    "cipher-algo=3des",
    "cipher-algo=cast5",
    "cipher-algo=twofish",
    "cipher-algo=none",
    "compress-algo=0",
    "compress-algo=1",
    "compress-algo=2",
    "compress-algo=3",
    "compress-algo=2, compress-level=0",
    "compress-algo=2, compress-level=9",
    "compress-level=10",
    "convert-crlf=1",
    "convert-crlf=0",
    "disable-mdc=1",
    "sess-key=1",
    "sess-key=1, cipher-algo=aes256",
    "s2k-mode=0",
    "s2k-mode=1",
    "s2k-mode=2",
    "s2k-mode=3",
    "s2k-mode=3, s2k-count=1024",
    "s2k-mode=3, s2k-count=65011712",
    "s2k-mode=3, s2k-count=65000000000",
    "s2k-count=1",
    "s2k-digest-algo=md5",
    "s2k-digest-algo=sha1",
    "s2k-digest-algo=sha256",
    "s2k-digest-algo=none",
    "s2k-cipher-algo=aes",
    "s2k-cipher-algo=aes192",
    "s2k-cipher-algo=none",
    "unicode-mode=0",
    "unicode-mode=1",
    " cipher-algo = aes256 ,compress-algo=1 ",
    "no such=1",
    "no-value",
    "=",
    ",",
    "",
)
EXPECTED = (
    "expect-cipher-algo=aes128",
    "expect-cipher-algo=bf",
    "expect-disable-mdc=1",
    "expect-sess-key=1",
    "expect-s2k-mode=0",
    "expect-s2k-digest-algo=md5",
    "expect-s2k-cipher-algo=aes256",
    "expect-compress-algo=1",
    "expect-unicode-mode=1",
    "debug=1",
)
TEXTS = ("''", "'a'", "'Zoë'", r"E'one\ntwo\r\nthree'", "repeat('x', 100000)")
ARMOR = "dearmor(armor('\\x0102030405'))"
BROKEN_ARMOR = (
    "",
    "no armor",
    "-----BEGIN PGP MESSAGE-----",
    "-----BEGIN PGP MESSAGE-----\n\nAQID\n=AAAA\n-----END PGP MESSAGE-----",
    "-----BEGIN PGP MESSAGE-----\n\nAQID\n-----END PGP MESSAGE-----",
    "-----BEGIN PGP MESSAGE-----\nk: v\n\nAQID\n=CZYs\n-----END PGP MESSAGE-----",
    "-----BEGIN PGP MESSAGE-----\nk: v\nk: w\nlong: a: b\n\nAQID\n=CZYs\n-----END PGP MESSAGE-----",
    "-----BEGIN PGP MESSAGE-----\nbad header\n\nAQID\n=CZYs\n-----END PGP MESSAGE-----",
    "-----BEGIN PGP MESSAGE-----\n\n!!!!\n=CZYs\n-----END PGP MESSAGE-----",
)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def hashes() -> Iterator[str]:
    for name, text in product(DIGESTS, ("''", "'abc'", "'Zoë'", "'\\xdeadbeef'::bytea", "NULL")):
        yield f"digest({text}, {quoted(name)})"
    for name, key in product(DIGESTS, ("''", "'key'", "repeat('k', 200)", "NULL")):
        yield f"hmac('data', {key}, {quoted(name)})"
        yield f"hmac('data'::bytea, {key}::bytea, {quoted(name)})"
    yield "digest('a', NULL)"
    yield "hmac('a', 'k', NULL)"
    yield "digest(1, 'md5')"
    yield "digest('a')"


def crypts() -> Iterator[str]:
    for password, salt in product(("''", "'foox'", "'Zoë'", "repeat('p', 100)", "NULL"), HASHES):
        yield f"crypt({password}, {quoted(salt)})"
    yield "crypt('a', NULL)"
    for name in SALTS:
        yield f"length(gen_salt({quoted(name)}))"
        yield f"gen_salt({quoted(name)}) = gen_salt({quoted(name)})"
        for rounds in (-1, 0, 1, 3, 4, 31, 32, 999, 1000, 16777215, 16777216):
            yield f"left(gen_salt({quoted(name)}, {rounds}), {ROUNDS_SHOWN.get(name, 3)})"
    yield "gen_salt(NULL)"
    yield "gen_salt('bf', NULL)"


def raw() -> Iterator[str]:
    key, iv = "'\\x000102030405060708090a0b0c0d0e0f'", "'\\x0f0e0d0c0b0a09080706050403020100'"
    for cipher, mode in product(CIPHERS, MODES):
        kind = quoted(cipher + mode)
        yield f"encrypt('sixteen bytes!!!', {key}, {kind})"
        yield f"decrypt(encrypt('sixteen bytes!!!', {key}, {kind}), {key}, {kind})"
        yield f"encrypt_iv('sixteen bytes!!!', {key}, {iv}, {kind})"
        yield f"decrypt_iv(encrypt_iv('sixteen bytes!!!', {key}, {iv}, {kind}), {key}, {iv}, {kind})"
    for length, kind in product(LENGTHS, ("aes", "bf-ecb", "3des-cbc", "aes/pad:none")):
        yield f"encrypt(repeat('d', {length})::bytea, {key}, '{kind}')"
        yield f"decrypt(repeat('d', {length})::bytea, {key}, '{kind}')"
        yield f"encrypt('d', repeat('k', {length})::bytea, '{kind}')"
        yield f"encrypt_iv('d', {key}, repeat('i', {length})::bytea, '{kind}')"
    yield f"decrypt(encrypt('d', {key}, 'aes'), 'another key', 'aes')"
    yield f"decrypt_iv(encrypt_iv('d', {key}, {iv}, 'aes'), 'another key', {iv}, 'aes')"
    for nulls in ("NULL, 'k', 'aes'", "'d', NULL, 'aes'", "'d', 'k', NULL"):
        yield f"encrypt({nulls})"
        yield f"decrypt({nulls})"
    yield "encrypt_iv('d', 'k', NULL, 'aes')"
    yield "decrypt_iv('d', 'k', NULL, 'aes')"


def random() -> Iterator[str]:
    for count in (-1, 0, 1, 16, 1024, 1025):
        yield f"length(gen_random_bytes({count}))"
    yield "gen_random_bytes(NULL)"
    yield "gen_random_bytes(16) = gen_random_bytes(16)"
    yield "substr(gen_random_uuid()::text, 15, 1)"
    yield "pg_typeof(gen_random_uuid())"
    yield "fips_mode()"


def symmetric() -> Iterator[str]:
    for text in TEXTS:
        yield f"pgp_sym_decrypt(pgp_sym_encrypt({text}, 'k'), 'k') = {text}"
        yield f"pgp_sym_decrypt_bytea(pgp_sym_encrypt_bytea({text}::bytea, 'k'), 'k') = {text}::bytea"
    for options in OPTIONS:
        yield f"pgp_sym_decrypt(pgp_sym_encrypt(E'a\\nb', 'k', {quoted(options)}), 'k')"
        yield f"pgp_sym_decrypt_bytea(pgp_sym_encrypt_bytea('\\x00ff', 'k', {quoted(options)}), 'k')"
        yield f"pgp_sym_decrypt(pgp_sym_encrypt('a', 'k'), 'k', {quoted(options)})"
    for options, expected in product(("", "sess-key=1", "compress-algo=1", "s2k-mode=0"), EXPECTED):
        yield f"pgp_sym_decrypt(pgp_sym_encrypt('a', 'k', {quoted(options)}), 'k', {quoted(expected)})"
    yield "pgp_sym_decrypt(pgp_sym_encrypt('a', 'k'), 'wrong')"
    yield "pgp_sym_decrypt(pgp_sym_encrypt('a', 'k', 'sess-key=1'), 'wrong')"
    yield "pgp_sym_decrypt(pgp_sym_encrypt_bytea('a', 'k'), 'k')"
    yield "pgp_sym_decrypt_bytea(pgp_sym_encrypt('a', 'k'), 'k')"
    yield "pgp_sym_decrypt(pgp_sym_encrypt('a', ''), '')"
    for corrupt in ("''", "'garbage'", "'\\xc30d04'", "'\\xff'", "'\\x00'", f"{ARMOR}"):
        yield f"pgp_sym_decrypt({corrupt}, 'k')"
        yield f"pgp_sym_decrypt_bytea({corrupt}, 'k', 'debug=1')"
    whole = "pgp_sym_encrypt(repeat('a', 50), 'k', 's2k-mode=0')"
    for length in range(0, 60, 7):
        yield f"pgp_sym_decrypt(substr({whole}, 1, {length}), 'k')"
    for position in (0, 1, 2, 3, 4, 5, 6, 7):
        yield f"pgp_sym_decrypt(set_byte({whole}, {position}, 255), 'k')"
    # A subquery, because each call of pgp_sym_encrypt() gives another message.
    changed = "set_byte(m, length(m) - 1, 1 # get_byte(m, length(m) - 1))"
    yield f"(SELECT pgp_sym_decrypt({changed}, 'k') FROM {whole} m)"
    for nulls in ("NULL, 'k'", "'d', NULL", "NULL, NULL, NULL", "'d', 'k', NULL"):
        yield f"pgp_sym_encrypt({nulls})"
        yield f"pgp_sym_decrypt({nulls})"


def armors() -> Iterator[str]:
    for size in (0, 1, 2, 3, 47, 48, 49, 1000):
        yield f"armor(repeat('a', {size})::bytea)"
        yield f"dearmor(armor(repeat('a', {size})::bytea))"
    for headers in (
        "ARRAY['k'], ARRAY['v']",
        "ARRAY['k', 'k2'], ARRAY['v', 'a: b']",
        "ARRAY[]::text[], ARRAY[]::text[]",
        "ARRAY['k'], ARRAY[]::text[]",
        "ARRAY['k'], ARRAY['v', 'w']",
        "ARRAY[NULL], ARRAY['v']",
        "ARRAY['k'], ARRAY[NULL]",
        "ARRAY['k: x'], ARRAY['v']",
        "ARRAY[E'k\\n'], ARRAY['v']",
        "ARRAY['k'], ARRAY[E'v\\nw']",
        "ARRAY['Zoë'], ARRAY['v']",
        "ARRAY['k'], ARRAY['Zoë']",
        "ARRAY[ARRAY['k']], ARRAY[ARRAY['v']]",
        "NULL, ARRAY['v']",
    ):
        yield f"armor('data', {headers})"
        yield f"(SELECT array_agg(h.*::text) FROM pgp_armor_headers(armor('data', {headers})) h)"
    for text in BROKEN_ARMOR:
        yield f"dearmor({quoted(text)})"
        yield f"(SELECT array_agg(h.*::text) FROM pgp_armor_headers({quoted(text)}) h)"
    yield "armor(NULL)"
    yield "dearmor(NULL)"
    yield "(SELECT count(*) FROM pgp_armor_headers(NULL))"


def key_ids() -> Iterator[str]:
    for text in ("''", "'garbage'", "'\\x99'", "pgp_sym_encrypt('a', 'k')", "NULL"):
        yield f"pgp_key_id({text})"
    for name in ("rsa", "locked", "elgamal", "signer"):
        yield f"pgp_key_id(public('{name}'))"
        yield f"pgp_key_id(secret('{name}'))"
    for name in ("rsa", "locked", "elgamal"):
        yield f"pgp_key_id(pgp_pub_encrypt('a', public('{name}')))"


def public_key() -> Iterator[str]:
    for name, text in product(("rsa", "elgamal"), TEXTS):
        yield f"pgp_pub_decrypt(pgp_pub_encrypt({text}, public('{name}')), secret('{name}')) = {text}"
    for options in OPTIONS:
        yield f"pgp_pub_decrypt(pgp_pub_encrypt(E'a\\nb', public('rsa'), {quoted(options)}), secret('rsa'))"
        yield f"pgp_pub_decrypt(pgp_pub_encrypt('a', public('rsa')), secret('rsa'), '', {quoted(options)})"
        yield (
            f"pgp_pub_decrypt_bytea(pgp_pub_encrypt_bytea('\\x00ff', public('rsa'), {quoted(options)}), secret('rsa'))"
        )
    for passphrase in ("''", "'wrong'", "(SELECT passphrase())", "NULL"):
        yield f"pgp_pub_decrypt(pgp_pub_encrypt('a', public('locked')), secret('locked'), {passphrase})"
        sealed = "pgp_pub_encrypt_bytea('a', public('locked'))"
        yield f"pgp_pub_decrypt_bytea({sealed}, secret('locked'), {passphrase}, 'debug=1')"
        yield f"pgp_pub_decrypt(pgp_pub_encrypt('a', public('rsa')), secret('rsa'), {passphrase})"
    yield "pgp_pub_decrypt(pgp_pub_encrypt('a', public('locked')), secret('locked'))"
    yield "pgp_pub_decrypt(pgp_pub_encrypt('a', public('rsa')), secret('elgamal'))"
    yield "pgp_pub_decrypt(pgp_pub_encrypt('a', public('elgamal')), secret('rsa'))"
    yield "pgp_pub_decrypt(pgp_pub_encrypt('a', public('rsa')), public('rsa'))"
    yield "pgp_pub_decrypt(pgp_pub_encrypt_bytea('a', public('rsa')), secret('rsa'))"
    yield "pgp_pub_decrypt_bytea(pgp_pub_encrypt('a', public('rsa')), secret('rsa'))"
    yield "pgp_pub_decrypt(pgp_sym_encrypt('a', 'k'), secret('rsa'))"
    yield "pgp_sym_decrypt(pgp_pub_encrypt('a', public('rsa')), 'k')"
    yield "pgp_pub_encrypt('a', secret('rsa'))"
    yield "pgp_pub_encrypt('a', public('signer'))"
    for junk in ("''", "'garbage'", "substr(public('rsa'), 1, 100)", "NULL"):
        yield f"pgp_pub_encrypt('a', {junk})"
        yield f"pgp_pub_decrypt('garbage', {junk})"
        yield f"pgp_pub_decrypt({junk}, secret('rsa'))"
    for length in (0, 1, 3, 20, 200, 280):
        yield f"pgp_pub_decrypt(substr(pgp_pub_encrypt('a', public('rsa')), 1, {length}), secret('rsa'))"


WITHOUT_KEYS = [*hashes(), *crypts(), *raw(), *random(), *symmetric(), *armors()]
WITH_KEYS = [*key_ids(), *public_key()]
