"""What protect() says of columns whose tokens would give the values away; search_advice(), and grant_search()."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.search.fix_users import make_users

PEOPLE = """
CREATE TABLE people (id int PRIMARY KEY, email text, gender text, active bool, surname text);
INSERT INTO people SELECT i, 'mail' || i, (ARRAY['m', 'f', 'd'])[1 + (i % 100) / 49], i % 3 = 0,
    'name' || (i % 1000) FROM generate_series(1, 4000) i"""


def verdict(db: Database, column: str, table: str = "people") -> str:
    found: str = db.one(f"SELECT verdict FROM envelope.search_advice('{table}', '{column}')")
    return found


def test_advice_before_and_after_protecting(db: Database) -> None:
    db.sql(PEOPLE)
    expected = {"email": "FINE", "surname": "FINE", "gender": "REFUSE", "active": "REFUSE"}
    assert {column: verdict(db, column) for column in expected} == expected
    db.sql("""CALL envelope.protect('people', '["email", "gender"]')""")
    assert verdict(db, "gender") == "REFUSE"
    advice = db.one("SELECT advice FROM envelope.search_advice('people', 'gender')")
    assert advice == "There are 3 different values: who knows one row of each reads all rows by their tokens."
    advice = db.one("SELECT advice FROM envelope.search_advice('people', 'email')")
    assert advice.startswith("An attacker who sees the tokens and knows how common the values are reads 0.")


@pytest.mark.parametrize("column", ["gender", "active"])
def test_protect_refuses_tokens_that_are_as_good_as_values(db: Database, column: str) -> None:
    db.sql(PEOPLE)
    db.sql(f"CREATE INDEX ON people ({column})")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        db.sql(f"""CALL envelope.protect('people', '["{column}"]')""")
    assert f"column {column}: " in str(caught.value.diag.message_detail)
    db.sql(f"""CALL envelope.protect('people', '{{"{column}": {{"search": {{"exact": {{"force": true}}}}}}}}')""")
    assert db.one(f"SELECT count(*) FROM people WHERE {column}_search IS NOT NULL") == 4000


def test_a_common_value_is_warned_of(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text)")
    db.sql("INSERT INTO t SELECT i, CASE WHEN i % 4 = 0 THEN 'smith' ELSE i::text END FROM generate_series(1, 4000) i")
    told: list[str] = []
    db.admin.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    db.sql("""CALL envelope.protect('t', '{"a": {"search": "exact"}}')""")
    assert any("search of column a: An attacker" in line for line in told)


CITIES = """
CREATE TABLE homes (id int PRIMARY KEY, city text, name text, open_city text);
INSERT INTO homes SELECT row_number() OVER (), 'city' || c, 'name' || n, 'city' || c
FROM generate_series(1, 6) c, generate_series(1, 12) n,
    generate_series(1, 6 * c * CASE WHEN c % 2 = 1 THEN n ELSE 13 - n END)"""


def test_two_columns_together_tell_more_than_each(db: Database) -> None:
    """The common names of every second city are the rare ones of the others. In the whole all are about as common."""
    db.sql(CITIES)
    together = "SELECT verdict, read_share, advice FROM envelope.search_advice('homes', 'name', beside => %s)"
    ((verdict, share, advice),) = db.sql(together, "city")
    alone = db.one("SELECT read_share FROM envelope.search_advice('homes', 'name')")
    assert alone < 0.3
    assert share > 0.6
    assert (
        f"also sees column city, and knows how common the values are for each of its values, reads {share:.1%}"
        in advice
    )
    told: list[str] = []
    db.admin.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    forced = '{"search": {"exact": {"force": true}}}'
    db.sql(f"""CALL envelope.protect('homes', '{{"city": {forced}, "name": {forced}}}')""")
    assert db.sql(together, "city") == [(verdict, share, advice)], "the same of a protected table"
    ((_, seen, _),) = db.sql(together, "open_city")
    assert seen >= share, "a column in the clear is read as it is"


def test_protect_looks_at_two_columns_together(db: Database) -> None:
    db.sql(CITIES)
    forced = '{"search": {"exact": {"force": true}}}'
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql(f"""CALL envelope.protect('homes', '{{"city": {forced}, "name": {{"search": "exact"}}}}')""")
    assert "who also sees column city" in (refused.value.diag.message_detail or "")


@pytest.mark.parametrize("beside", ["name", "nothing"])
def test_advice_needs_another_column(db: Database, beside: str) -> None:
    db.sql(CITIES)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        db.sql("SELECT envelope.search_advice('homes', 'name', beside => %s)", beside)


def test_too_few_rows_are_said_to_be(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x')")
    assert verdict(db, "a", "t") == "UNKNOWN"


@pytest.mark.parametrize(("column", "error"), [("nothing", "22023"), ("born", "0A000")])
def test_advice_needs_a_column_that_can_be_searched(db: Database, column: str, error: str) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, born interval)")
    with pytest.raises(psycopg.Error) as caught:
        verdict(db, column, "t")
    assert caught.value.sqlstate == error


def test_grant_search(db: Database) -> None:
    make_users(db, count=20)
    db.sql("GRANT SELECT (id) ON users TO alice; SELECT envelope.grant_search('users', 'email', 'alice')")
    alice = db.connect("alice")
    assert alice.execute("SELECT id FROM users WHERE email_search = 'user7@example.org'").fetchall() == [(7,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("SELECT email FROM users")
    with pytest.raises(psycopg.errors.UndefinedObject, match="no search column"):
        db.sql("SELECT envelope.grant_search('users', 'id', 'alice')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("SELECT envelope.grant_search('users', 'email', 'alice')")


def test_coarser_tokens_are_measured_as_they_are(db: Database) -> None:
    """2,000 different numbers have ten last digits."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, card text, born date)")
    db.sql("INSERT INTO t SELECT i, '4111' || i, date '1950-01-01' + i * 10 FROM generate_series(1, 2000) i")
    query = "SELECT verdict, different_values FROM envelope.search_advice('t', %s, %s)"
    assert db.sql(query, "card", "exact") == [("FINE", 2000)]
    assert db.sql(query, "card", "last1") == [("REFUSE", 10)]
    assert db.sql(query, "born", "year") == [("FINE", 55)]
    last_digit = '{"card": {"search": {"exact": {"normalize": "last1"}}}}'
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql(f"CALL envelope.protect('t', '{last_digit}')")
    assert "There are 10 different values" in str(refused.value.diag.message_detail)
    db.sql("""CALL envelope.protect('t', '{"card": {"search": "exact"}}')""")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("CALL envelope.rotate_search('t', 'card', normalizer => 'last1')")
    assert "There are 10 different values" in str(refused.value.diag.message_detail)
    assert db.sql(query, "card", "last1") == [("REFUSE", 10)]


@pytest.mark.parametrize(("column", "normalizer"), [("card", "year"), ("born", "email"), ("card", "nothing")])
def test_advice_refuses_a_normaliser_that_is_not_for_the_column(db: Database, column: str, normalizer: str) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, card text, born date)")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="normaliser"):
        db.sql("SELECT FROM envelope.search_advice('t', %s, %s)", column, normalizer)
