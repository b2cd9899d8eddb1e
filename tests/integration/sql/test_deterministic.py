"""Suite 4: equal values of a column have equal envelopes, where that was asked for by name, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database, Fill
from tests.integration.adoption.fix_legacy import KEY, import_key

SUITE = {"suite": 4, "bind": "column"}
FORCED = {**SUITE, "force": True}
# One text for each value, and several values for some texts.
TYPES = {
    "text": ["", "a", "A", "a ", "Zoë", "Zoe\u0308", "x" * 3000],
    "bytea": ["\\x", "\\x00", "\\x0000", "\\xe104"],
    "numeric": ["1", "1.0", "1.00", "-0", "NaN"],
    "float8": ["0", "-0", "0.1"],
    "jsonb": ['{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "[]", "1.0", "1"],
    "json": ['{"a": 1}', '{ "a": 1}'],
    "timestamptz": ["2026-01-01 12:00+00", "2026-01-01 13:00+01", "2026-01-02"],
    "int[]": ["{1,2}", "{2,1}", "{}"],
    "bool": ["true", "false"],
    "xml": ["<a/>", "<a />"],
}


def protect(db: Database, table: str, columns: dict[str, Any], more: str = "") -> None:
    db.sql(f"CALL envelope.protect('{table}', %s::jsonb{more})", json.dumps(columns))


def envelopes(db: Database, table: str = "t", column: str = "a") -> list[bytes]:
    return [found for (found,) in db.sql(f'SELECT "{column}" FROM {table}_encrypted ORDER BY id')]


def refusal(db: Database, statement: str, *values: object) -> tuple[str, str]:
    with pytest.raises(psycopg.Error) as refused, db.admin.transaction():
        db.sql(statement, *values)
    diag = refused.value.diag
    return diag.sqlstate or "", f"{diag.message_primary}\n{diag.message_detail}\n{diag.message_hint}"


@pytest.mark.parametrize("kind", TYPES)
def test_equal_are_the_canonical_texts(db: Database, kind: str) -> None:
    """Rows that were there, rows of another session, and rows of an UPDATE."""
    db.sql(f"CREATE TABLE t (id int PRIMARY KEY, a {kind}); CREATE TABLE plain (id int PRIMARY KEY, a {kind})")
    values = TYPES[kind]
    for table in ("t", "plain"):
        for number, value in enumerate(values):
            db.sql(f"INSERT INTO {table} VALUES (%s, %s::{kind})", number, value)
    protect(db, "t", {"a": FORCED})
    other = db.connect()
    for number, value in enumerate(values, start=100):
        other.execute(f"INSERT INTO t VALUES (%s, %s::{kind})", [number, value])  # type: ignore[arg-type]
        db.sql("INSERT INTO t VALUES (%s, NULL)", number + 100)
        db.sql(f"UPDATE t SET a = %s::{kind} WHERE id = %s", value, number + 100)
    text = "xmlserialize(CONTENT a AS text)" if kind == "xml" else "envelope_internal.canonical(a)"
    texts = [found for (found,) in db.sql(f"SELECT {text} FROM plain ORDER BY id")] * 3
    assert [found for (found,) in db.sql(f"SELECT {text} FROM t ORDER BY id")] == texts
    pairs = set(zip(texts, envelopes(db), strict=True))
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def test_other_columns_tables_keys_and_databases_have_other_envelopes(db: Database) -> None:
    for table in ("t", "u"):
        db.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, a text, b text, c text)")
        protect(db, table, {"a": SUITE, "b": SUITE, "c": {**SUITE, "pad": True}})
        db.sql(f"INSERT INTO {table} VALUES (1, 'x', 'x', 'x')")
    found = {envelopes(db, table, column)[0] for table in "tu" for column in "abc"}
    assert len({envelope[6:] for envelope in found}) == 6
    assert len({envelope[-16:] for envelope in found}) == 6


def test_a_rotation_parts_equal_values_until_they_are_encrypted_anew(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text)")
    protect(db, "t", {"a": SUITE})
    db.sql("INSERT INTO t SELECT i, 'v' || i % 3 FROM generate_series(1, 30) i")
    for rotate in ("SELECT envelope.rotate('t')", "SELECT envelope.rotate_field('t', 'a')"):
        before = envelopes(db)
        assert len(set(before)) == 3
        db.sql(rotate)
        db.sql("UPDATE t SET a = a || '' WHERE id <= 15")
        assert len(set(envelopes(db))) >= 3
        db.sql("INSERT INTO t SELECT i, 'v' || i % 3 FROM generate_series(31, 33) i")
        assert len(set(envelopes(db))) == 6
        db.sql("CALL envelope.reencrypt('t')")
        assert len(set(envelopes(db))) == 3
        assert not set(before) & set(envelopes(db))
        db.sql("DELETE FROM t WHERE id > 30")
    assert db.sql("SELECT a, count(*) FROM t GROUP BY a ORDER BY a") == [("v0", 10), ("v1", 10), ("v2", 10)]
    db.sql("CALL envelope.verify('t')")
    assert db.one("SELECT count(*) FROM envelope.faults") == 0


@pytest.mark.parametrize("scope", ["tenant", "subject"])
def test_tenants_and_subjects_do_not_share_envelopes(db: Database, scope: str) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, who text NOT NULL, a text)")
    protect(db, "t", {"a": SUITE}, f", scope => '{scope}', scope_column => 'who'")
    db.sql("INSERT INTO t SELECT i, 'p' || i % 2, 'x' FROM generate_series(1, 10) i")
    found = envelopes(db)
    assert (len(set(found)), len(set(found[::2])), len(set(found[1::2]))) == (2, 1, 1)
    db.sql("UPDATE t SET who = 'p0' WHERE id = 1")
    assert envelopes(db)[0] == found[1]
    assert db.one("SELECT a FROM t WHERE id = 1") == "x"
    db.sql("CALL envelope.shred('t', 'p1', 'ticket 7')" if scope == "subject" else "SELECT 1")
    assert db.one("SELECT a FROM t WHERE id = 2") == "x"


@pytest.mark.parametrize("online", [False, True])
def test_there_and_back(db: Database, online: bool) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text)")
    db.sql("INSERT INTO t SELECT i, 'v' || i % 7 FROM generate_series(1, 70) i")
    before = db.sql("SELECT * FROM t ORDER BY id")
    protect(db, "t", {"a": FORCED}, f", online => {str(online).lower()}")
    assert {envelope[1] for envelope in envelopes(db)} == {4}
    assert len(set(envelopes(db))) == 7
    assert db.sql("SELECT bind, suite FROM envelope.columns") == [("column", 4)]
    db.sql(f"CALL envelope.unprotect('t', online => {str(online).lower()})")
    assert db.sql("SELECT * FROM t ORDER BY id") == before


PEOPLE = """
CREATE TABLE t (id int PRIMARY KEY, a text, gender text, active bool, doc json, mail text);
INSERT INTO t SELECT i, 'name' || i, (ARRAY['m', 'f', 'd'])[1 + (i % 100) / 49], i % 3 = 0,
    json_build_object('k', i % 2), 'mail' || i FROM generate_series(1, 2000) i"""


@pytest.mark.parametrize("column", ["gender", "active", "doc"])
def test_columns_whose_envelopes_would_be_as_good_as_values_need_force(db: Database, column: str) -> None:
    db.sql(PEOPLE)
    sqlstate, said = refusal(db, "CALL envelope.protect('t', %s::jsonb)", json.dumps({column: SUITE}))
    assert sqlstate == "0A000"
    assert f"column {column}: " in said
    assert "envelopes" in said
    assert '"force": true of the column' in said
    protect(db, "t", {column: FORCED, "mail": SUITE})
    assert len({found[-16:] for found in envelopes(db, column=column)}) <= 3


def test_two_columns_are_measured_together(db: Database) -> None:
    """A common name of one city is a rare one of the next; in the whole all are about as common."""
    db.sql(
        "CREATE TABLE t (id int PRIMARY KEY, city text, name text); INSERT INTO t SELECT row_number() OVER (),"
        " 'city' || c, 'name' || n FROM generate_series(1, 6) c, generate_series(1, 12) n,"
        " generate_series(1, 6 * c * CASE WHEN c % 2 = 1 THEN n ELSE 13 - n END)"
    )
    asked = {"city": FORCED, "name": SUITE}
    for options in (asked, {"city": {"search": {"exact": {"force": True}}}, "name": SUITE}):
        sqlstate, said = refusal(db, "CALL envelope.protect('t', %s::jsonb)", json.dumps(options))
        assert (sqlstate, "also sees column city" in said) == ("0A000", True)
    options = {"city": FORCED, "name": {"search": "exact"}}
    assert "also sees column city" in refusal(db, "CALL envelope.protect('t', %s::jsonb)", json.dumps(options))[1]


def test_a_search_added_later_is_measured_beside_equal_envelopes(db: Database) -> None:
    db.sql(
        "CREATE TABLE t (id int PRIMARY KEY, city text, name text); INSERT INTO t SELECT row_number() OVER (),"
        " 'city' || c, 'name' || n FROM generate_series(1, 6) c, generate_series(1, 12) n,"
        " generate_series(1, 6 * c * CASE WHEN c % 2 = 1 THEN n ELSE 13 - n END)"
    )
    protect(db, "t", {"city": FORCED, "name": {}})
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("CALL envelope.add_search('t', 'name')")
    assert "also sees column city" in str(refused.value.diag.message_detail)


def test_an_adoption_needs_force(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text)")
    import_key(db, "legacy", "fernet", KEY)
    adopt = "CALL envelope.adopt('t', %s, 'fernet', key => 'legacy')"
    sqlstate, said = refusal(db, adopt, json.dumps({"a": SUITE}))
    assert (sqlstate, "cannot be measured" in said) == ("0A000", True)
    db.sql(adopt, json.dumps({"a": FORCED}))
    db.sql("INSERT INTO t VALUES (1, 'x'), (2, 'x')")
    assert len(set(envelopes(db))) == 1


def test_nothing_is_deterministic_by_default(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    protect(db, "t", {"a": {"bind": "column"}, "b": SUITE})
    db.sql("INSERT INTO t VALUES (1, 'x', 'x'), (2, 'x', 'x')")
    assert (len(set(envelopes(db))), len(set(envelopes(db, column="b")))) == (2, 1)
    db.sql("SELECT envelope.create_key('crm')")
    assert db.one("SELECT envelope.encrypt('x', 'crm') = envelope.encrypt('x', 'crm')") is False


def test_the_catalog_itself_refuses_it_bound_by_row(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text)")
    protect(db, "t", {"a": SUITE})
    assert refusal(db, "UPDATE envelope_private.field SET bind = 'row'")[0] == "23514"
    db.sql("SELECT envelope.create_key('crm')")
    assert refusal(db, "UPDATE envelope_private.field SET suite = 4 WHERE bind = 'context'")[0] == "23514"


def fill_pair(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    protect(db, "t", {"a": SUITE, "b": SUITE})
    db.sql("INSERT INTO t VALUES (1, 'one', 'uno'), (2, 'two', 'due')")


@pytest.fixture
def pair(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill_pair)


OTHER = "(SELECT {} FROM t_encrypted o WHERE o.id = 2)"
HOSTILE = {
    "of another column": "b",
    "called suite 1": "set_byte(a::bytea || decode(repeat('00', 12), 'hex'), 1, 1)",
    "called suite 5": "set_byte(a::bytea || decode(repeat('00', 12), 'hex'), 1, 5)",
    "called padded": "set_byte(a::bytea, 1, 132)",
    "with the tag first": "substr(a::bytea, 1, 6) || right_part(a::bytea, 16) || substr(a::bytea, 7, 3)",
    "with the tag of another": f"substr(a::bytea, 1, 9) || {OTHER.format('right_part(o.a::bytea, 16)')}",
    "with the ciphertext of another": f"substr(a::bytea, 1, 6) || {OTHER.format('substr(o.a::bytea, 7, 3)')}"
    " || right_part(a::bytea, 16)",
    "cut to the overhead": "substr(a::bytea, 1, 22)",
    "with zeros for a tag": "substr(a::bytea, 1, 6) || decode(repeat('00', 16), 'hex')",
    "under another key id": "set_byte(a::bytea, 5, get_byte(a::bytea, 5) # 1)",
    "longer by a byte": "a::bytea || '\\x00'",
    "under key id 0": "set_byte(set_byte(a::bytea, 5, 0), 4, 0)",
}


@pytest.mark.parametrize("forged", HOSTILE.values(), ids=HOSTILE)
def test_forged_envelopes_do_not_open_and_all_fail_alike(pair: Database, forged: str) -> None:
    pair.sql(
        "CREATE FUNCTION right_part(value bytea, count int) RETURNS bytea IMMUTABLE"
        " RETURN substr(value, length(value) - count + 1)"
    )
    with pair.admin.transaction():
        pair.sql("SET LOCAL session_replication_role = replica")
        pair.sql(f"UPDATE t_encrypted SET a = {forged} WHERE id = 1")
    for connection in (pair.admin, pair.connect()):
        with pytest.raises(psycopg.errors.DataCorrupted) as refused:
            connection.execute("SELECT a FROM t WHERE id = 1")
        assert (refused.value.diag.message_primary, refused.value.diag.message_detail) == (
            "pg_envelope: the envelope cannot be opened",
            None,
        )


def test_an_index_over_envelopes_is_refused(pair: Database) -> None:
    """It would hold within one key version only, so a UNIQUE would end with the next rotation."""
    assert refusal(pair, "CREATE UNIQUE INDEX ON t (a)")[0] == "0A000"


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("INSERT INTO {} VALUES (%s, %s) ON CONFLICT DO NOTHING"),
            st.integers(1, 6),
            st.text("ab", max_size=2),
        ),
        st.tuples(st.just("UPDATE {} SET a = %s WHERE mod(id, 3) = %s"), st.text("ab", max_size=2), st.integers(0, 2)),
        st.tuples(st.just("UPDATE {} SET a = a || %s"), st.just(None), st.text("ab", max_size=1)),
        st.tuples(st.just("DELETE FROM {} WHERE id = %s"), st.integers(1, 6), st.just(None)),
    ),
    max_size=8,
)


@pytest.fixture
def twins(shared_db: Database) -> Iterator[Database]:
    yield shared_db
    shared_db.sql("DROP SCHEMA IF EXISTS pairs CASCADE; RESET search_path")


@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
@given(operations=OPERATIONS, pad=st.booleans(), rotated=st.integers(0, 8))
def test_envelopes_are_equal_where_the_plain_twin_has_equal_values(
    twins: Database, operations: list[tuple[str, int | str | None, int | str | None]], pad: bool, rotated: int
) -> None:
    twins.sql("DROP SCHEMA IF EXISTS pairs CASCADE; CREATE SCHEMA pairs; SET search_path = pairs, public")
    twins.sql("CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE plain (id int PRIMARY KEY, a text)")
    protect(twins, "t", {"a": {**SUITE, "pad": pad}})
    for number, (statement, first, second) in enumerate(operations):
        values = [value for value in (first, second) if value is not None]
        for table in ("t", "plain"):
            twins.sql(statement.format(table), *values)
        if number == rotated:
            twins.sql("SELECT envelope.rotate('t')")
            twins.sql("CALL envelope.reencrypt('t')")
    plain = twins.sql("SELECT id, a FROM plain ORDER BY id")
    assert twins.sql("SELECT id, a FROM t ORDER BY id") == plain
    pairs = set(zip([value for _, value in plain], envelopes(twins), strict=True))
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


SUBJECTS = ", scope => 'subject', scope_column => 'who', erased => 'null'"


def test_erased_values_read_as_null_and_forged_ones_do_not(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, who text NOT NULL, a text)")
    protect(db, "t", {"a": SUITE}, SUBJECTS)
    db.sql("INSERT INTO t VALUES (1, 'p', 'x'), (2, 'p', 'x'), (3, 'q', 'x')")
    db.sql("CALL envelope.shred('t', 'p', 'ticket 7')")
    reader = db.connect()
    assert reader.execute("SELECT id, a FROM t ORDER BY id").fetchall() == [(1, None), (2, None), (3, "x")]
    db.sql("UPDATE t_encrypted SET a = set_byte(a::bytea || decode(repeat('00', 12), 'hex'), 1, 1) WHERE id = 1")
    with pytest.raises(psycopg.errors.DataCorrupted):
        reader.execute("SELECT a FROM t WHERE id = 1")


POLICY = """
ALTER TABLE t_encrypted ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t_encrypted USING (who = 'us');
CALL envelope.refresh('t')"""


@pytest.mark.parametrize("options", [{"audit": "row"}, {"audit": "statement", "pad": True}, {"search": "exact"}])
@pytest.mark.parametrize("row_security", [False, True])
def test_with_a_ledger_and_masks(db: Database, options: dict[str, Any], row_security: bool) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, who text NOT NULL, a text)")
    protect(db, "t", {"a": {**SUITE, **options}})
    told = refusal(db, "SELECT envelope.mask('t', 'a', 'public', 'null')")
    assert (told[0], '"search": true' in told[1]) == ("55000", True)
    with db.admin.transaction():
        db.sql("SELECT envelope.mask('t', 'a', 'public', 'null', '{\"search\": true}')")
        db.sql("SELECT envelope.mask('t', 'a', 'bob', 'clear')")
    db.sql("GRANT SELECT, INSERT, UPDATE ON t TO alice, bob")
    if row_security:
        for statement in POLICY.split(";"):
            db.sql(statement)
    bob = db.connect("bob")
    for row in (1, 2):
        bob.execute("INSERT INTO t (id, who, a) VALUES (%s, 'us', 'x')", [row])
    assert len(set(envelopes(db))) == 1
    assert bob.execute("SELECT id, a FROM t ORDER BY id").fetchall() == [(1, "x"), (2, "x")]
    assert db.connect("alice").execute("SELECT id, a FROM t ORDER BY id").fetchall() == [(1, None), (2, None)]


@pytest.mark.parametrize("row_security", [False, True])
def test_with_an_upsert_relation(db: Database, row_security: bool) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, who text NOT NULL, a text)")
    protect(db, "t", {"a": SUITE})
    for statement in POLICY.split(";") if row_security else ():
        db.sql(statement)
    db.sql("CALL envelope.allow_upsert('t')")
    db.sql("GRANT SELECT, INSERT, UPDATE ON t, t_upsert TO bob")
    bob = db.connect("bob")
    upsert = "INSERT INTO t_upsert (id, who, a) VALUES (%s, 'us', %s) ON CONFLICT (id) DO UPDATE SET a = excluded.a"
    for row, value in ((1, "x"), (2, "y"), (2, "x")):
        bob.execute(upsert, [row, value])
    assert bob.execute("SELECT id, a FROM t ORDER BY id").fetchall() == [(1, "x"), (2, "x")]
    assert len(set(envelopes(db))) == 1


def test_a_canary_equals_no_other_row(db: Database) -> None:
    """Its key is its own, so a value that it has in common with a row does not tell what the row holds."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text)")
    protect(db, "t", {"a": SUITE})
    db.sql("INSERT INTO t VALUES (1, 'x'), (7, 'x')")
    db.sql("""SELECT envelope.plant_canary('t', '{"id": 7}')""")
    assert len(set(envelopes(db))) == 2
    assert db.sql("SELECT id, a FROM t ORDER BY id") == [(1, "x"), (7, "x")]
