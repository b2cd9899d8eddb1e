"""pg-envelope lint: what is found in a statement, where, and how the statement is rewritten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.slow_words import NO_ORDER
from pg_envelope_client.lint import grammar, sources
from pg_envelope_client.lint.findings import rewritten
from pg_envelope_client.lint.protected import KnownTables, from_rows
from pg_envelope_client.lint.walk import found_in
from pg_envelope_client.problems import Problem

ROWS = [
    ("public", "customer", "email", "email_search", "exact/1", "customer.email"),
    ("public", "customer", "email", "email_casefold", "casefold/1", "customer.email_casefold"),
    ("public", "customer", "name", "name_loose", "unaccent/1", "customer.name"),
    ("public", "customer", "city", "city_match", "match/1", "customer.city"),
    ("public", "customer", "born", "born_range", "range-month/1", "customer.born"),
    ("public", "customer", "notes", "notes_contains", "contains/1", "customer.notes"),
    ("public", "customer", "phone", None, None, None),
    ("public", "customer", "Odd Name", "Odd Search", "exact/1", "odd"),
    ("shop", "invoice", "email", "email_search", "exact/1", "customer.email"),
    ("shop", "invoice", "payer", "payer_search", "exact/1", "invoice.payer"),
]
NAMES = ("schema", "relation", "column", "search_column", "normalizer", "search_key")
PROTECTED = from_rows({**dict(zip(NAMES, row, strict=True)), "primary_key": ["id"]} for row in ROWS)

# Statements, in which <a|b> is what is written and what becomes of it.
REWRITTEN = [
    "SELECT * FROM customer WHERE <email|email_search> = 'a'",
    "SELECT * FROM customer WHERE 'a' = <email|email_search>",
    "SELECT * FROM customer c WHERE c.<email|email_search> = %s",
    'SELECT * FROM customer WHERE <"email"|email_search> <> :who',
    "SELECT * FROM public.customer WHERE customer . <email|email_search> = ?",
    "SELECT * FROM customer WHERE <email|email_search> IN ('a'<|::text>, 'b'<|::text>)",
    "SELECT * FROM customer WHERE <email|email_search> IN (%s, %s)",
    "SELECT * FROM customer WHERE <email|email_search> = ANY ($1)",
    "SELECT * FROM customer WHERE <email|email_search> IS NULL",
    "SELECT * FROM customer WHERE NOT (id > 3 OR <email|email_search> = 'ä€')",
    "SELECT 'ä€', * FROM customer WHERE <email|email_search> = %(who)s",
    "SELECT * FROM customer WHERE <lower(email)|email_casefold> = lower('A')",
    "SELECT * FROM customer c WHERE <upper( |>c.<email )|email_casefold> = 'A'",
    "SELECT * FROM customer WHERE <|(name_loose = 'x' AND >name = 'x'<|)>",
    "SELECT * FROM customer WHERE NOT <|(name_loose = 'x' AND >name = 'x'<|)>",
    "SELECT * FROM customer c WHERE <|(c.name_loose = $1 AND >c.name = $1<|)>",
    "SELECT count(DISTINCT <email|email_search>) FROM customer",
    "UPDATE customer SET phone = 'x' WHERE <email|email_search> = 'a'",
    "DELETE FROM customer WHERE <email|email_search> = 'a'",
    "DELETE FROM other o USING customer c WHERE o.m = c.<email|email_search>",
    "SELECT * FROM customer c JOIN shop.invoice i ON c.<email|email_search> = i.<email|email_search>",
    "SELECT * FROM o WHERE m IN (SELECT id FROM customer WHERE <email|email_search> = $1)",
    "SELECT * FROM customer WHERE <email|email_search> IN (SELECT m FROM o)",
    "WITH x AS (SELECT 1) SELECT * FROM customer WHERE <email|email_search> = 'a'",
    "WITH c AS (SELECT * FROM customer WHERE <email|email_search> = 'a') SELECT * FROM c",
    "SELECT 1 UNION SELECT id FROM customer WHERE <email|email_search> = 'a'",
    "SELECT * FROM o WHERE EXISTS (SELECT FROM customer c WHERE c.<email|email_search> = o.m)",
    "SELECT * FROM o JOIN LATERAL (SELECT * FROM customer WHERE <email|email_search> = o.m) x ON true",
    "INSERT INTO o SELECT id FROM customer WHERE <email|email_search> = 'a'",
    'SELECT * FROM customer c WHERE c.<"Odd Name"|"Odd Search"> = $1',
    "SELECT * FROM customer WHERE email_search IN ('a'<|::text>, 'b'<|::text>)",
    "SELECT CASE WHEN EXISTS (SELECT FROM customer WHERE <email|email_search> = 'a') THEN 1 END",
]
# A statement that a person has to change: the column, and words of what is said.
TOLD = [
    ("SELECT * FROM customer WHERE phone = '1'", "customer.phone", "search add public.customer phone"),
    ("SELECT * FROM customer WHERE email LIKE 'a%'", "customer.email", "no order"),
    ("SELECT * FROM customer WHERE email ILIKE %s", "customer.email", "no order"),
    ("SELECT * FROM customer WHERE email BETWEEN 'a' AND 'b'", "customer.email", "no order"),
    ("SELECT * FROM customer WHERE name <> 'a'", "customer.name", "no order"),
    ("SELECT * FROM customer WHERE name IS NULL", "customer.name", "search add"),
    ("SELECT * FROM customer WHERE email > 'a'", "customer.email", "no order"),
    ("SELECT * FROM customer WHERE email ~ 'a'", "customer.email", "no order"),
    ("SELECT * FROM customer WHERE substr(phone, 1, 3) = '123'", "customer.phone", "no order"),
    ("SELECT * FROM customer WHERE email::text = 'a'", "customer.email", "no order"),
    ("SELECT * FROM customer WHERE phone", "customer.phone", "no order"),
    ("SELECT * FROM customer WHERE email_search LIKE 'a%'", "customer.email_search", "refused"),
    ("SELECT id, email FROM customer ORDER BY 2", "customer.email", "sort"),
    ("SELECT id, email AS e FROM customer ORDER BY e", "customer.email", "sort"),
    ("SELECT id FROM customer c ORDER BY c.email DESC", "customer.email", "sort"),
    ("SELECT id FROM customer ORDER BY email_search", "customer.email_search", "sorts by tokens"),
    ("SELECT email FROM customer GROUP BY email", "customer.email", "equal values"),
    ("SELECT DISTINCT email FROM customer", "customer.email", "equal values"),
    ("SELECT DISTINCT ON (phone) id FROM customer", "customer.phone", "search add"),
    ("SELECT * FROM customer JOIN shop.invoice USING (email)", "customer.email", "ON"),
    ("SELECT * FROM customer c JOIN shop.invoice i ON c.email = i.payer", "customer.email", "another search key"),
    ("MERGE INTO customer c USING o ON c.phone = o.p WHEN MATCHED THEN DELETE", "customer.phone", "search add"),
]  # fmt: skip
# What decrypts no more rows than it has to, or is no statement about a protected table at all.
QUIET = [
    "SELECT email FROM customer",
    "SELECT * FROM customer WHERE email_search = 'a'",
    "SELECT * FROM customer WHERE id = 7 AND email = 'a'",
    "UPDATE customer SET email = lower(email) WHERE id IN (1, 2)",
    "SELECT * FROM customer c WHERE c.id = $1 AND c.email LIKE 'a%'",
    "SELECT * FROM other WHERE email = 'a' ORDER BY email",
    "SELECT * FROM other.customer WHERE email = 'a'",
    "WITH customer AS (SELECT 1 AS email) SELECT * FROM customer WHERE email = 1",
    "SELECT * FROM invoice i, customer c WHERE i.id = 1 AND c.id = 2 AND i.email = c.email",
    "INSERT INTO customer (id, email) VALUES (1, 'a')",
    "SELECT email = FROM",
    "",
]


MARKED = re.compile(r"<([^|<>]*)\|([^|<>]*)>")


@pytest.mark.parametrize("marked", REWRITTEN)
def test_what_a_search_column_answers_is_rewritten(marked: str) -> None:
    statement, expected = MARKED.sub(r"\1", marked), MARKED.sub(r"\2", marked)
    assert rewritten(statement, found_in(statement, PROTECTED)) == expected
    left = found_in(expected, PROTECTED)
    assert all("AND" in found.instead for found in left), left


@pytest.mark.parametrize(("statement", "column", "words"), TOLD)
def test_what_a_person_has_to_change_is_told(statement: str, column: str, words: str) -> None:
    found = found_in(statement, PROTECTED)
    assert [one.column for one in found][:1] == [column]
    assert words in found[0].what + found[0].instead
    assert rewritten(statement, found) == statement


@pytest.mark.parametrize("statement", QUIET)
def test_nothing_is_said_of_the_rest(statement: str) -> None:
    assert found_in(statement, PROTECTED) == []


@given(st.text(), st.sampled_from([MARKED.sub(r"\1", marked) for marked in REWRITTEN]))
def test_any_text_is_read_without_an_error(text: str, statement: str) -> None:
    for one in (text, statement + text, text + statement, statement.replace("customer", text)):
        found_in(one, PROTECTED)
        grammar.split(one)


def placed(path: Path, content: str) -> list[tuple[str, str]]:
    path.write_text(content)
    return [
        (source.at(one.offset).rsplit(":", 1)[1], one.column)
        for source in sources.of_folder(path)
        for one in found_in(source.text, PROTECTED)
    ]


def test_lines_of_a_script(tmp_path: Path) -> None:
    script = (
        "\\set x 1\n-- all\nSELECT 1;\n\nSELECT *\n  FROM customer\n WHERE email = 'a;b';\n"
        "SELECT 2; DELETE FROM customer WHERE phone = :x;\n"
    )
    assert placed(tmp_path / "a.sql", script) == [("7", "customer.email"), ("8", "customer.phone")]


def test_strings_of_a_python_source(tmp_path: Path) -> None:
    source = '''"""SELECT no statement FROM"""
import x
x.execute("SELECT * FROM customer WHERE email = %s", (x,))
x.execute(f"SELECT * FROM customer WHERE phone = {x} AND {1 + 1} = 2")
y = """
    SELECT *
    FROM customer WHERE phone = %(a)s"""
z = "Select one of email = "
'''
    found = placed(tmp_path / "a.py", source)
    assert found == [("3", "customer.email"), ("4", "customer.phone"), ("7", "customer.phone")]
    assert placed(tmp_path / "b.py", "def broken(:") == []
    assert [source.line for source in sources.of_folder(tmp_path)] == [1, 3, 4, 5, 8]


def test_statements_of_a_log(tmp_path: Path) -> None:
    log = (
        "2026-01-01 10:00:00 UTC [1] LOG:  duration: 12.3 ms  statement: SELECT * FROM customer\n"
        "\t WHERE email = 'a'\n"
        "2026-01-01 10:00:00 UTC [1] LOG:  execute <unnamed>: SELECT * FROM customer WHERE phone = $1\n"
        "2026-01-01 10:00:00 UTC [1] DETAIL:  parameters: $1 = 'x'\n"
        "2026-01-01 10:00:00 UTC [1] LOG:  checkpoint starting: time\n"
    )
    assert placed(tmp_path / "a.log", log) == [("2", "customer.email"), ("3", "customer.phone")]


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Problem, match="is not text"):
        sources.of_folder(tmp_path)


def test_a_table_without_a_primary_key_is_never_one_row() -> None:
    tables = from_rows([{**dict(zip(NAMES, ROWS[0], strict=True)), "primary_key": None}])
    assert isinstance(tables, KnownTables)
    assert found_in("SELECT * FROM customer WHERE id = 1 AND email = 'a'", tables)


@pytest.mark.parametrize(
    ("condition", "instead"),
    [
        ("city LIKE '%ab%'", "Write city_match @> ... AND city LIKE ..., with the same pattern."),
        ("city = 'a'", "First: pg-envelope search add public.customer city"),
        ("city_match = 'a'", "Write @> and a pattern of LIKE."),
        ("city_match LIKE 'a'", "Write @> and a pattern of LIKE."),
    ],
)
def test_a_match_search_takes_patterns_alone(condition: str, instead: str) -> None:
    assert [found.instead for found in found_in(f"SELECT id FROM customer WHERE {condition}", PROTECTED)] == [instead]


BY_RANGE = "Write born_range <@ a range, AND the comparison of born as it is."


@pytest.mark.parametrize(
    ("condition", "instead"),
    [
        ("born < $1", BY_RANGE),
        ("$1 >= born", BY_RANGE),
        ("born BETWEEN '1990-01-01' AND '1990-02-01'", BY_RANGE),
        ("born <@ daterange('1990-01-01', '1990-02-01')", BY_RANGE),
        ("born = '1990-01-01'", "First: pg-envelope search add public.customer born"),
        ("born NOT BETWEEN '1990-01-01' AND '1990-02-01'", NO_ORDER),
        ("born_range = '1990-01-01'", "Write <@ and a range."),
        ("born_range && daterange('1990-01-01', '1990-02-01')", "Write <@ and a range."),
        ("born_range BETWEEN $1 AND $2", "Write <@ and a range."),
    ],
)
def test_a_range_search_takes_ranges_alone(condition: str, instead: str) -> None:
    assert [found.instead for found in found_in(f"SELECT id FROM customer WHERE {condition}", PROTECTED)] == [instead]


@pytest.mark.parametrize(
    ("condition", "instead"),
    [
        ("notes @> $1", "Write notes_contains @> ... AND notes @> ..., with the same value."),
        ("notes ? 'a'", NO_ORDER),
        ("notes = $1", "First: pg-envelope search add public.customer notes"),
        ("notes_contains = $1", "Write @> and a jsonb."),
    ],
)
def test_a_contains_search_takes_jsonb_alone(condition: str, instead: str) -> None:
    assert [found.instead for found in found_in(f"SELECT id FROM customer WHERE {condition}", PROTECTED)] == [instead]
    assert list(found_in("SELECT id FROM customer WHERE notes_contains @> $1", PROTECTED)) == []
    rows = [{**dict(zip(NAMES, row, strict=True)), "primary_key": ["id"]} for row in ROWS]
    of_paths = [
        {**row, "normalizer": (row["normalizer"] or "").replace("contains/", "contains-a.b,c/")} for row in rows
    ]
    assert [one.instead for one in found_in(f"SELECT id FROM customer WHERE {condition}", from_rows(of_paths))] == [
        instead
    ]


@pytest.mark.parametrize(
    "condition",
    [
        "born_range <@ $1 AND born < $2",
        "city_match @> $1 AND (city LIKE $1 OR phone = $2)",
        "notes_contains @> $1 AND notes @> $1 ORDER BY born",
        "name_loose = 'x' AND lower(name) = 'x'",
        "born_range <@ daterange($1, $2) IS TRUE",
        "id > 3 AND EXISTS (SELECT FROM customer WHERE name_loose = $1 AND name = $1)",
    ],
)
def test_nothing_is_said_of_rows_that_a_search_has_found(condition: str) -> None:
    assert found_in(f"SELECT id FROM customer WHERE {condition}", PROTECTED) == []


@pytest.mark.parametrize(
    "condition",
    [
        "born_range <@ $1 OR born < $2",
        "NOT (name_loose = 'x') AND name = 'x'",
        "name_loose <> 'x' AND name = 'x'",
        "name_loose = 'x' AND EXISTS (SELECT FROM customer c WHERE c.name = 'x')",
        "id IN (SELECT c.id FROM customer c, customer d WHERE c.name_loose = 'x' AND d.name = 'y')",
    ],
)
def test_a_search_that_finds_no_rows_narrows_nothing(condition: str) -> None:
    found = found_in(f"SELECT id FROM customer WHERE {condition}", PROTECTED)
    assert any(one.column in ("customer.born", "customer.name") for one in found)


def test_a_search_of_one_table_narrows_no_other() -> None:
    statement = "SELECT 1 FROM customer c, shop.invoice i WHERE c.{} AND i.email = $2"
    assert [one.column for one in found_in(statement.format("name_loose = $1"), PROTECTED)] == ["invoice.email"]
    assert [
        one.column for one in found_in(statement.format("email_search = i.email_search AND c.phone = $1"), PROTECTED)
    ] == [
        "customer.phone",
        "invoice.email",
    ]


@pytest.mark.parametrize("change", ["DELETE FROM customer", "UPDATE customer SET phone = 'x'"])
def test_a_change_of_candidates_alone_is_told(change: str) -> None:
    for condition, told in {
        "born_range <@ $1": ["Add the condition on born itself, joined by AND."],
        "city_match @> $1 AND born < now()": ["Add the condition on city itself, joined by AND."],
        "born_range <@ $1 AND born <= $2": [],
        "notes_contains @> $1 AND customer.notes @> $1": [],
        "email_search = $1": [],
    }.items():
        found = found_in(f"{change} WHERE {condition}", PROTECTED)
        assert [one.instead for one in found] == told
        assert all(one.what == "changes candidates, too, which are no answers" for one in found)
    joined = "UPDATE customer c SET phone = o.x FROM o WHERE o.y = c.id AND c.city_match @> o.z"
    assert [one.column for one in found_in(joined, PROTECTED)] == ["customer.city_match"]


@pytest.mark.parametrize("search", ["born_range <@ $1", "$1 @> born_range", "city_match @> $1", "notes_contains @> $1"])
@pytest.mark.parametrize(
    "around",
    [
        "NOT {}",
        "NOT ({} AND id > 3)",
        "({}) IS NOT TRUE",
        "({}) IS FALSE",
        "({}) IS UNKNOWN",
        "({}) = false",
        "({}) IS DISTINCT FROM true",
        "coalesce({}, false) = false",
        "CASE WHEN {} THEN false ELSE true END",
        "EXISTS (SELECT FROM customer WHERE NOT {})",
    ],
)
def test_candidates_that_are_turned_round_are_told(search: str, around: str) -> None:
    (found,) = found_in(f"SELECT id FROM customer WHERE {around.format(search)}", PROTECTED)
    column = next(name for name in ("born", "city", "notes") if name in search)
    assert found.what == "misses rows: it finds candidates, and not all others are answers"
    assert found.instead == f"Write NOT before a condition on {column} itself."


@pytest.mark.parametrize(
    ("condition", "instead"),
    [
        ("born_range <@ ANY ($1)", "Write several <@ with OR."),
        ("city_match @> ALL ($1)", "Write several @> with AND."),
        ("city NOT LIKE '%abc%'", NO_ORDER),
        ("city NOT ILIKE '%abc%'", NO_ORDER),
    ],
)
def test_what_no_index_serves_is_told(condition: str, instead: str) -> None:
    assert [found.instead for found in found_in(f"SELECT id FROM customer WHERE {condition}", PROTECTED)] == [instead]


def test_a_range_beside_a_range_search_is_right() -> None:
    for condition in ("born_range <@ daterange($1, $2)", "daterange($1, $2) @> born_range"):
        assert list(found_in(f"SELECT id FROM customer WHERE {condition}", PROTECTED)) == []


def test_a_pattern_beside_a_match_search_is_right() -> None:
    assert list(found_in("SELECT id FROM customer WHERE city_match @> '%abc%'", PROTECTED)) == []
