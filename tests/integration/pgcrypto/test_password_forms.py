"""hash_passwords() hashes passwords and nothing else that stands in their place: no mark, no hash of another kind."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database

BASE64, HEX = "./" + string.ascii_letters + string.digits, "0123456789abcdef"


def of(alphabet: str, low: int, high: int | None = None) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=low, max_size=high or low)


readable = st.one_of(
    st.builds("$2{}${:02}${}".format, st.sampled_from("abxy"), st.integers(4, 31), of(BASE64, 53)),
    st.builds("$argon2id$v=19$m=65536,t=3,p=4${}${}".format, of(BASE64, 22), of(BASE64, 43)),
    st.builds("$1${}${}".format, of(BASE64, 1, 8), of(BASE64, 22)),
    st.builds("$5${}${}".format, of(BASE64, 8), of(BASE64, 43)),
    st.builds("$6$rounds=5000${}${}".format, of(BASE64, 16), of(BASE64, 86)),
)
foreign = st.one_of(
    st.builds("$y$j9T${}${}".format, of(BASE64, 22), of(BASE64, 43)),
    st.builds("$P$B{}".format, of(BASE64, 30)),
    st.builds("$S$D{}".format, of(BASE64, 51)),
    st.builds("$argon2i$v=19$m=4096,t=3,p=1${}${}".format, of(BASE64, 22), of(BASE64, 43)),
    st.builds("$pbkdf2-sha256$29000${}${}".format, of(BASE64, 22), of(BASE64, 43)),
    st.builds("$apr1${}${}".format, of(BASE64, 8), of(BASE64, 22)),
    st.builds("pbkdf2_sha256${}${}${}=".format, st.integers(1, 10**6), of(BASE64, 12), of(BASE64, 43)),
    st.builds("bcrypt_sha256$$2b$12${}".format, of(BASE64, 53)),
    st.builds("scrypt:32768:8:1${}${}".format, of(BASE64, 16), of(HEX, 128)),
    st.builds(
        "{{{}}}{}=".format, st.sampled_from(["SSHA", "SHA", "SMD5", "MD5", "CRYPT", "SSHA512", "ssha"]), of(BASE64, 27)
    ),
    st.builds("SCRAM-SHA-256$4096:{}==${}=:{}=".format, of(BASE64, 22), of(BASE64, 43), of(BASE64, 43)),
    st.builds("md5{}".format, of(HEX, 32)),
    st.builds("*{}".format, of(HEX.upper(), 40)),
    st.sampled_from([32, 40, 56, 64, 96, 128]).flatmap(lambda size: of(HEX, size) | of(HEX.upper(), size)),
    st.builds("{}:{}".format, of(HEX, 32), of(BASE64, 1, 32)),
)
names = st.sampled_from(["*LK*", "*NP*", "*LOCKED*", "!*LK*"])
locked = st.one_of(
    of("!*- \t\n\x1f", 0, 8),
    st.sampled_from(["x", "!x", "NP", "*LK*", "*NP*", "*0", "*1", "!!", "*LOCKED*"]),
    st.builds("{}{}".format, of("!*", 1, 2), readable | foreign),
    st.builds("{}{}".format, names, readable | foreign | of(BASE64, 13)),
    st.builds("!{}".format, of(string.ascii_letters + string.digits, 40)),
).filter(lambda mark: not re.fullmatch(r"\*[0-9A-F]{40}", mark))
passwords = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs")), min_size=3, max_size=24).filter(
        lambda text: text[0] not in "!*$-{" and not set(text) <= set(HEX + HEX.upper())
    ),
    st.sampled_from(
        [
            "correct horse",
            "!secret",
            "*secret*",
            "$ecret",
            "$1 bill",
            "{braces}",
            "2$4u",
            "md5",
            "!Sunshine2020",
            "\u00e9t\u00e9",
        ]
    ),
    of(BASE64, 13).filter(lambda text: not set(text) <= set(HEX)),
    st.builds("! {}".format, of(string.ascii_letters, 3, 9)),
)


@pytest.fixture(scope="module")
def login(both: Database) -> Database:
    both.sql("CREATE TABLE login (id int PRIMARY KEY, pw text)")
    return both


def run(login: Database, values: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """What the values become, and the messages of the run."""
    told: list[tuple[str, str]] = []
    login.sql("TRUNCATE login")
    for number, value in enumerate(values):
        login.sql("INSERT INTO login VALUES (%s, %s)", number, value)
    with login.connect() as connection:
        connection.add_notice_handler(
            lambda report: told.append((report.message_primary or "", report.message_detail or ""))
        )
        connection.execute("CALL envelope.hash_passwords('login', 'pw')")
    return [pw for (pw,) in login.sql("SELECT pw FROM login ORDER BY id")], told


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.lists(readable, max_size=3), st.lists(foreign, min_size=1, max_size=8), st.lists(locked, min_size=1, max_size=8)
)
def test_what_is_no_password_is_left_alone_and_told(
    login: Database, hashes: list[str], others: list[str], marks: list[str]
) -> None:
    values = [*hashes, *others, *marks]
    found, told = run(login, values)
    assert found == values
    (left,) = [message for message in told if "alone" in message[0]]
    assert left == (
        f"hash_passwords left {len(others) + len(marks)} values alone, which are no passwords",
        f"{len(marks)} are empty or the mark of a locked account; {len(others)} are hashes of another kind.",
    )
    assert told[-1][0] == "hash_passwords: 0 passwords hashed, none is left"
    for value in (*others, *marks):
        for guess in (value, "", "*", "!", value.lstrip("!*")):
            assert login.one("SELECT envelope.verify_password(%s::text, %s::text)", guess, value) is False


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(st.lists(passwords, min_size=1, max_size=3))
def test_every_password_is_hashed(login: Database, values: list[str]) -> None:
    found, told = run(login, values)
    assert told[-1][0] == f"hash_passwords: {len(values)} passwords hashed, none is left"
    for value, made in zip(values, found, strict=True):
        assert login.one("SELECT envelope.verify_password(%s::text, %s::text)", value, made) is True


def test_nothing_is_told_where_nothing_was_left(login: Database) -> None:
    _, told = run(login, ["correct horse"])
    assert not [message for message, _ in told if "left" in message and "alone" in message]
