"""A role that sees masks gets, from every form of statement, what a plain table of the masks gives."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

from .fix_masks import CLEAR_EMAIL, MASKED, PROTECT, RULES, SHOWN, TABLE, mask_all

Connection = psycopg.Connection[Any]
MASK = "SELECT envelope.mask('person', 'email', 'public', 'email')"
UNMASK = "SELECT envelope.unmask('person', 'email')"
FORMS = {
    "select": "SELECT * FROM {t} ORDER BY id",
    "equal to the value": "SELECT id FROM {t} WHERE email = 'ada.5d1e1@example.org'",
    "equal to the mask": "SELECT id FROM {t} WHERE email = 'a***@example.org' ORDER BY id",
    "like": "SELECT id FROM {t} WHERE email LIKE 'ada%%' OR ssn LIKE '5d1e%%'",
    "range": "SELECT id FROM {t} WHERE born > '1990-06-01' OR paid > 1200",
    "in a list": "SELECT id FROM {t} WHERE ssn IN ('5d1e-00001', '***01')",
    "array": "SELECT id FROM {t} WHERE email = ANY (ARRAY['ada.5d1e1@example.org', 'a***@example.org']) ORDER BY id",
    "order": "SELECT id FROM {t} ORDER BY email, ssn DESC NULLS LAST, id",
    "limit": "SELECT email FROM {t} ORDER BY email DESC LIMIT 1",
    "group": "SELECT email, count(*), array_agg(id ORDER BY id) FROM {t} GROUP BY email ORDER BY 1",
    "aggregates": "SELECT min(email), max(ssn), sum(paid), avg(paid), min(born), max(seen), count(photo) FROM {t}",
    "distinct": "SELECT DISTINCT born FROM {t} ORDER BY 1",
    "window": "SELECT id, lag(ssn) OVER (ORDER BY id), rank() OVER (ORDER BY paid) FROM {t} ORDER BY id",
    "having": "SELECT born FROM {t} GROUP BY born HAVING max(email) > 'aa' ORDER BY 1",
    "self join": "SELECT a.id, b.id FROM {t} a JOIN {t} b USING (email, born) ORDER BY 1, 2",
    "outer join": "SELECT a.id, b.ssn FROM {t} a LEFT JOIN {t} b ON a.ssn = b.ssn AND a.id > b.id ORDER BY 1, 2",
    "union": "SELECT email FROM {t} UNION SELECT ssn FROM {t} ORDER BY 1",
    "except": "SELECT email FROM {t} EXCEPT SELECT 'a***@example.org'",
    "exists": "SELECT id FROM {t} o WHERE EXISTS (SELECT FROM {t} i WHERE i.email = o.email AND i.id < o.id)",
    "scalar sub-select": "SELECT (SELECT ssn FROM {t} v WHERE v.id = g) FROM generate_series(1, 3) g",
    "lateral": "SELECT x.email FROM generate_series(1, 3) g, LATERAL (SELECT * FROM {t} p WHERE p.id = g OFFSET 0) x",
    "with": "WITH w AS MATERIALIZED (SELECT * FROM {t}) SELECT email, ssn FROM w ORDER BY id",
    "recursive": (
        "WITH RECURSIVE r AS (SELECT id, ssn::text FROM {t} WHERE id = 1 UNION ALL"
        " SELECT p.id, r.ssn || p.ssn FROM r JOIN {t} p ON p.id = r.id + 1 WHERE p.id < 4) SELECT * FROM r ORDER BY 1"
    ),
    "row": "SELECT ROW(p.*)::text FROM {t} p ORDER BY id",
    "json": "SELECT to_jsonb(p) FROM {t} p ORDER BY id",
    "casts": "SELECT left(ssn, 3)::text, born::text, paid::int, seen::date, email::bytea FROM {t} ORDER BY id",
    "cube": "SELECT email, born, count(*) FROM {t} GROUP BY CUBE (email, born) ORDER BY 1, 2, 3",
    "case": "SELECT CASE WHEN paid BETWEEN 1001 AND 1999 THEN email ELSE ssn END FROM {t} ORDER BY id",
    "xml": "SELECT query_to_xml('SELECT * FROM {t} ORDER BY id', true, false, '')::text",
    "filter": "SELECT count(*) FILTER (WHERE born = '1990-01-01') FROM {t}",
}


@pytest.fixture
def twin(masked: Database) -> Database:
    """`twin` is a plain table of what alice is to see."""
    masked.sql("CREATE TABLE twin AS SELECT * FROM person")
    for column, shown in zip(RULES, SHOWN, strict=True):
        masked.sql(f"UPDATE twin SET {column} = {'NULL' if shown is None else repr(shown)} WHERE {column} IS NOT NULL")
    masked.sql("UPDATE twin SET email = 'n***@example.org' WHERE id = 9")
    masked.sql("UPDATE twin SET ssn = '***0' || id WHERE ssn IS NOT NULL")
    masked.sql("GRANT SELECT ON twin TO alice")
    return masked


def results(session: Connection, statement: str, table: str) -> list[tuple[Any, ...]]:
    found = session.execute(statement.format(t=table).replace("%%", "%").encode()).fetchall()
    return [tuple(str(value).replace(table, "t") for value in row) for row in found]


def test_all_forms(twin: Database) -> None:
    """One test, because the table is the same for all: the message names the form."""
    alice = twin.connect("alice")
    alice.execute("SET TimeZone = UTC")
    for form, statement in FORMS.items():
        assert results(alice, statement, "person") == results(alice, statement, "twin"), form
        bob = results(twin.connect("bob"), statement, "person")
        assert bob == results(twin.admin, statement, "person"), form


def test_cursors_copies_and_prepared_statements(twin: Database) -> None:
    alice = twin.connect("alice")
    rows = f"SELECT id, {MASKED} FROM {{}} ORDER BY id"
    for table in ("person", "twin"):
        alice.execute(f"PREPARE {table}s AS {rows.format(table)}")
        alice.execute(f"DECLARE {table}_c SCROLL CURSOR WITH HOLD FOR {rows.format(table)}")
        alice.execute(f"CREATE TEMP TABLE {table}_t AS {rows.format(table)}")
        alice.execute(f"CREATE TEMP VIEW {table}_v AS {rows.format(table)}")
    for statement in ("EXECUTE {}s", "FETCH ALL FROM {}_c", "FETCH FIRST FROM {}_c", "TABLE {}_t", "TABLE {}_v"):
        pair = [alice.execute(statement.format(table)).fetchall() for table in ("person", "twin")]
        assert pair[0] == pair[1]
    copies = []
    for table in ("person", "twin"):
        with alice.cursor().copy(f"COPY ({rows.format(table)}) TO STDOUT") as copy:
            copies.append(b"".join(bytes(part) for part in copy))
    assert copies[0] == copies[1]


def test_rls(masked: Database) -> None:
    masked.sql("ALTER TABLE person_encrypted ENABLE ROW LEVEL SECURITY")
    masked.sql("CREATE POLICY few ON person_encrypted USING (id < 3)")
    masked.sql("CALL envelope.refresh('person')")
    read = "SELECT id, email, ssn, photo FROM person ORDER BY id"
    assert masked.sql(read, user="alice") == [
        (1, "a***@example.org", "***01", None),
        (2, "a***@example.org", "***02", None),
    ]
    assert masked.sql(read, user="bob")[0] == (1, "ada.5d1e1@example.org", "5d1e-00001", b"\x5d\x1e")
    assert len(masked.sql(read, user="owner")) == 6
    alice = masked.connect("alice")
    written = (
        "UPDATE person SET name = 'new', ssn = ssn, photo = photo, email = email WHERE id = 1 RETURNING email, ssn"
    )
    assert alice.execute(written).fetchall() == [("a***@example.org", "***01")]
    assert masked.sql("SELECT name, email, ssn FROM person WHERE id = 1") == [
        ("new", "ada.5d1e1@example.org", "5d1e-00001")
    ]
    by_hand = (
        "SELECT envelope_internal.decrypt_text_as_role(b.email, c.field_uuid, b.id::text) FROM person_encrypted b, "
        f"(SELECT '{field(masked)}'::uuid AS field_uuid) c WHERE b.id = 1"
    )
    assert alice.execute(by_hand).fetchall() == [("a***@example.org",)]
    assert masked.sql(by_hand, user="bob") == [("ada.5d1e1@example.org",)]


@pytest.mark.parametrize("in_block", [False, True])
def test_rls_in_a_session_that_has_read(db: Database, in_block: bool) -> None:
    """A rule counts from the next statement. Where a transaction has read the table, `mask` waits for its end."""
    db.sql(TABLE)
    db.sql("GRANT SELECT ON person TO alice; ALTER TABLE person ENABLE ROW LEVEL SECURITY")
    db.sql("CREATE POLICY all_rows ON person USING (true)")
    db.sql(PROTECT)
    alice = db.connect("alice")
    read = "SELECT email FROM person WHERE id = 1"
    for seen, change in ((CLEAR_EMAIL, MASK), ("a***@example.org", UNMASK), (CLEAR_EMAIL, MASK)):
        with alice.transaction() if in_block else nullcontext():
            assert [alice.execute(read).fetchall() for _ in range(3)] == [[(seen,)]] * 3
        db.sql(change)
    assert alice.execute(read).fetchall() == [("a***@example.org",)]


def field(db: Database) -> str:
    return str(db.one("SELECT field_uuid FROM envelope.columns WHERE \"column\" = 'email'"))


@pytest.mark.usefixtures("own_keys")
def test_with_an_audited_column(masked: Database) -> None:
    masked.sql("CALL envelope.set_audit('person', 'email', 'row')")
    masked.sql("CALL envelope.set_audit('person', 'photo', 'statement')")
    read = "SELECT email, photo FROM person WHERE id = 1"
    assert masked.sql(read, user="alice") == [("a***@example.org", None)]
    assert masked.sql(read, user="bob") == [("ada.5d1e1@example.org", b"\x5d\x1e")]
    masked.sql("CALL envelope.set_limit('person', 'email', 3)")
    alice = masked.connect("alice")
    assert len(alice.execute("SELECT email FROM person LIMIT 3").fetchall()) == 3
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        alice.execute("SELECT email FROM person")


def test_with_values_that_are_not_of_their_type(masked: Database) -> None:
    masked.sql("CALL envelope.set_audit('person', 'email', 'statement')")
    masked.sql(
        "INSERT INTO envelope_private.fault (field_uuid, row_key, key_id, reason, found_by)"
        " SELECT field_uuid, '{\"id\": 1}', 1, 'not of its type', 'verify' FROM envelope.columns"
    )
    masked.sql("CALL envelope.refresh('person')")
    alice = masked.connect("alice")
    read = "SELECT email, ssn, born::text, paid::text, photo FROM person WHERE id = 1"
    assert alice.execute(read).fetchall() == [("a***@example.org", "***01", "1990-01-01", "1000.00", None)]
    alice.execute("UPDATE person SET name = 'x', email = email, ssn = ssn, photo = photo WHERE id = 1")
    assert masked.sql("SELECT email, photo FROM person WHERE id = 1") == [("ada.5d1e1@example.org", b"\x5d\x1e")]


def test_in_subject_scope(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, name text, email text, ssn text, born date)")
    db.sql("INSERT INTO person SELECT g, 'p', 'ada.5d1e1@example.org', '5d1e-0001' FROM generate_series(1, 3) g")
    db.sql(
        """CALL envelope.protect('person', '["email", "ssn"]', scope => 'subject', scope_column => 'id',
            erased => 'null')"""
    )
    db.sql("SELECT envelope.mask('person', 'email', 'public', 'email')")
    db.sql("GRANT SELECT, UPDATE ON person TO alice")
    assert db.sql("SELECT email, ssn FROM person WHERE id = 1", user="alice") == [("a***@example.org", "5d1e-0001")]
    db.sql("CALL envelope.shred('person', '2', 'asked')")
    db.sql("UPDATE person SET name = 'x', email = email", user="alice")
    assert db.sql("SELECT email FROM person ORDER BY id", user="alice") == [
        ("a***@example.org",),
        (None,),
        ("a***@example.org",),
    ]
    assert db.one("SELECT email FROM person WHERE id = 3") == "ada.5d1e1@example.org"


def test_view_regeneration(masked: Database) -> None:
    """Masks of before hold after a refresh and a rename."""
    masked.sql("ALTER TABLE person_encrypted RENAME email TO mail; CALL envelope.refresh('person')")
    assert masked.sql("SELECT mail FROM person WHERE id = 1", user="alice") == [("a***@example.org",)]
    assert masked.one("SELECT kind FROM envelope.masks WHERE \"column\" = 'mail' AND role = 'public'") == "email"
    masked.sql("ALTER TABLE person RENAME mail TO email")
    mask_all(masked)
