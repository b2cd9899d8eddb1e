"""slow_reads() says of a statement what the exact reader, `pg-envelope lint`, says of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope import slow_words
from pg_envelope.backend.search import wording
from pg_envelope.backend.search.slow_reads import DOES, ReadColumn, found_in, instead
from pg_envelope_client.lint.protected import from_rows
from pg_envelope_client.lint.walk import found_in as exactly

COLUMNS = [
    ReadColumn("public", "member", "email", {"email_search": "exact/1"}, ("id",)),
    ReadColumn("public", "member", "Full name", {}, ("id",)),
    ReadColumn("public", "member", "city", {"city_match": "match/1"}, ("id",)),
    ReadColumn("public", "member", "notes", {"notes_contains": "contains/1"}, ("id",)),
    ReadColumn("public", "member", "born", {"born_range": "range-month/1"}, ("id",)),
]
ROWS: list[dict[str, Any]] = [
    {
        "schema": one.schema,
        "relation": one.relation,
        "column": one.name,
        "search_column": search,
        "normalizer": normalizer,
        "search_key": search and "k",
        "primary_key": ["id"],
    }
    for one in COLUMNS
    for search, normalizer in (one.searches or {None: None}).items()
]
BY_PATTERN = "Write city_match @> ... AND city LIKE ..., with the same pattern."
BY_CONTENT = "Write notes_contains @> ... AND notes @> ..., with the same value."
BY_RANGE = "Write born_range <@ a range, AND the comparison of born as it is."


def found(statement: str) -> set[tuple[str, str, str]]:
    return {
        (f"{column.relation}.{column.name}", DOES[use.does], instead(column, use))
        for column, use in found_in(statement, COLUMNS)
    }


def linted(statement: str) -> set[tuple[str, str, str]]:
    return {(one.column, one.what, one.instead) for one in exactly(statement, from_rows(ROWS))}


SEARCHED, UNSEARCHED = "Compare email_search.", "First: pg-envelope search add public.member Full name"
KNOWN = {
    "SELECT id FROM member WHERE email = $1": {("member.email", slow_words.DECRYPTS, SEARCHED)},
    "select id from public.member m where m.email in ($1, $2)": {("member.email", slow_words.DECRYPTS, SEARCHED)},
    'SELECT id FROM "member" WHERE $1 = "email"': {("member.email", slow_words.DECRYPTS, SEARCHED)},
    "SELECT id FROM member WHERE email LIKE $1": {("member.email", slow_words.DECRYPTS, slow_words.NO_ORDER)},
    "SELECT id FROM member WHERE lower(email) = $1": {("member.email", slow_words.DECRYPTS, slow_words.NO_ORDER)},
    'SELECT 1 FROM member WHERE "Full name" = $1': {("member.Full name", slow_words.DECRYPTS, UNSEARCHED)},
    "SELECT email FROM member ORDER BY email DESC LIMIT $1": {("member.email", slow_words.SORTS, slow_words.SORT_LESS)},
    "SELECT count(DISTINCT email) FROM member": {("member.email", slow_words.GROUPS, SEARCHED)},
    "SELECT email, count(*) FROM member GROUP BY email": {("member.email", slow_words.GROUPS, SEARCHED)},
    "UPDATE member SET email = $1 WHERE email = $2": {("member.email", slow_words.DECRYPTS, SEARCHED)},
    "SELECT 1 FROM a WHERE x IN (SELECT id FROM member WHERE email = $1) ORDER BY y": {
        ("member.email", slow_words.DECRYPTS, SEARCHED)
    },
    "SELECT 1 FROM member WHERE city LIKE $1": {("member.city", slow_words.DECRYPTS, BY_PATTERN)},
    "SELECT 1 FROM member WHERE city ILIKE $1": {("member.city", slow_words.DECRYPTS, BY_PATTERN)},
    "SELECT 1 FROM member WHERE city NOT LIKE $1": {("member.city", slow_words.DECRYPTS, slow_words.NO_ORDER)},
    "SELECT 1 FROM member WHERE notes @> $1": {("member.notes", slow_words.DECRYPTS, BY_CONTENT)},
    "SELECT 1 FROM member WHERE born BETWEEN $1 AND $2": {("member.born", slow_words.DECRYPTS, BY_RANGE)},
    "SELECT 1 FROM member m WHERE $1 <= m.born": {("member.born", slow_words.DECRYPTS, BY_RANGE)},
    "SELECT 1 FROM member WHERE born <@ daterange($1, $2)": {("member.born", slow_words.DECRYPTS, BY_RANGE)},
    "SELECT 1 FROM member WHERE born < $1 ORDER BY born": {
        ("member.born", slow_words.DECRYPTS, BY_RANGE),
        ("member.born", slow_words.SORTS, slow_words.SORT_LESS),
    },
    "SELECT 1 FROM member WHERE city_match @> $1 AND city LIKE $1": set(),
    "SELECT 1 FROM member WHERE born_range <@ daterange($1, $2) AND born < $2 ORDER BY born": set(),
    "SELECT 1 FROM member WHERE notes_contains @> $1 AND notes @> $1 AND city LIKE $2": set(),
    "SELECT email FROM member WHERE email_search = $1": set(),
    "SELECT email FROM member WHERE id = $1 AND email = $2": set(),
    "SELECT email FROM member -- WHERE email = 'x'": set(),
    "SELECT 'x WHERE email = ', $$ WHERE email = $$ FROM member": set(),
    "SELECT EMAIL FROM member": set(),
    'SELECT "EMAIL" FROM member WHERE "EMAIL" = $1': set(),
    "SELECT 1 FROM other WHERE email = $1": set(),
    "UPDATE member SET email = $1": set(),
    "INSERT INTO member (id, email) VALUES ($1, $2)": set(),
}


@pytest.mark.parametrize("statement", KNOWN)
def test_known_statements(statement: str) -> None:
    assert found(statement) == KNOWN[statement]


names = st.sampled_from(["email", '"Full name"', "m.email", "tenant", "email_search", '"EMAIL"'])
conditions = st.one_of(
    st.builds("{} = $1".format, names),
    st.builds("{} <> $1".format, names),
    st.builds("{} LIKE $2".format, names.filter(lambda name: "search" not in name)),
    st.builds("{} = ANY ($1)".format, names),
    st.sampled_from(["city LIKE $1", "m.city NOT ILIKE $2", "notes @> $1", "born BETWEEN $1 AND $2", "m.born >= $1"]),
    st.sampled_from(["city_match @> $1", "notes_contains @> $1", "m.born_range <@ daterange($1, $2)"]),
    st.just("id = $3"),
    st.just("tenant > $1 /* WHERE email = 'x' */"),
)
statements = st.builds(
    "{} FROM public.member AS m {} {} {}".format,
    st.sampled_from(["SELECT id", "SELECT email", "SELECT m.*, 'WHERE email'", "SELECT 1, max(tenant)"]),
    st.lists(conditions, max_size=3).map(lambda found: "WHERE " + " AND ".join(found) if found else ""),
    st.sampled_from(["", "GROUP BY tenant", "GROUP BY email", 'GROUP BY "Full name", tenant']),
    st.sampled_from(["", "ORDER BY tenant", "ORDER BY email DESC NULLS LAST", 'ORDER BY "Full name" LIMIT 10']),
)


@given(statements)
def test_it_says_what_lint_says(statement: str) -> None:
    """Of a column that a clause compares in two ways it says one."""
    said, exact = found(statement), linted(statement)
    assert {one[:2] for one in said} == {one[:2] for one in exact}
    assert said <= exact


@given(st.text(st.sampled_from("member email WHERE()=$'\"1;-/*\\\n.,ORDER BY")))
def test_no_text_is_too_odd(statement: str) -> None:
    assert all(use.does in DOES for _, use in found_in(statement, COLUMNS))
    assert all(word.text for word in wording.words(statement))
