"""Jobs pass over what does not open, go on, and say what they left and where."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_jobs import Beside, until

from .fix_damage import FAULTS, ROWS, as_written, damage, damage_all, old, put_back, readable, stored, told

REENCRYPT = "CALL envelope.reencrypt('letter', 10)"
RECEIPT = "SELECT statement::jsonb -> 'statement' FROM envelope.receipts ORDER BY made_at DESC LIMIT 1"


@pytest.mark.parametrize(
    "call",
    [REENCRYPT, "CALL envelope.rotate_emergency('letter', 'test')", "CALL envelope.rotate_due()"],
    ids=["reencrypt", "rotate_emergency", "rotate_due"],
)
def test_everything_else_gets_the_newest_key(letters: Database, call: str) -> None:
    bad = damage_all(letters)
    letters.sql("SELECT envelope.set_schedule('dek', '1 second', 'public.letter', reencrypt => true)")
    letters.sql("UPDATE envelope_private.dek SET created_at = created_at - interval '9 days' WHERE state = 'active'")
    before = stored(letters, bad)
    warnings = [text for severity, text, _ in told(letters.connect(), call) if severity == "WARNING"]
    assert [text.partition(":")[0] for text in warnings] == ["reencrypt"]
    assert f"that do not open, and stay as they are: {len(bad)};" in warnings[0]
    assert old(letters) == list(bad)
    assert [row[:2] for row in stored(letters, bad)] == [row[:2] for row in before], "not a byte of theirs was written"
    assert readable(letters, bad) == as_written(bad)
    assert letters.sql(FAULTS) == [(str(row), reason) for row, reason in bad.items()]
    assert letters.sql('SELECT DISTINCT relation::text, "column", found_by FROM envelope.faults') == [
        ("letter", "body", "reencrypt")
    ]
    assert letters.sql("SELECT state, faults FROM envelope.progress") == [("done", len(bad))]


def test_the_receipt_claims_nothing_for_their_column(letters: Database) -> None:
    bad = damage_all(letters)
    letters.sql(REENCRYPT)
    statement = letters.one(RECEIPT)
    head, body = statement["fields"]
    assert (statement["left"], head["left"], head["zero_below"]) == (len(bad), {}, 2)
    assert (body["left"], body["zero_below"]) == ({"does not open": 10, "key unknown": 2}, None)
    assert letters.one('SELECT "left" FROM envelope.receipts') == len(bad)
    warned = told(letters.admin, "SELECT envelope.receipt('letter')")
    assert ("WARNING", "receipt: it proves nothing for values") in [(level, text[:37]) for level, text, _ in warned]


def test_no_row_key_is_in_what_is_told(letters: Database) -> None:
    """A warning goes to the server's log as well; envelope.faults is the owner's."""
    letters.sql("UPDATE letter SET id = 987654321 WHERE id = 11")
    letters.sql("SELECT envelope.rotate('letter')")
    damage(letters, "cut", 987654321)
    assert "987654321" not in repr(told(letters.admin, REENCRYPT))
    assert letters.sql(FAULTS) == [("987654321", "does not open")]


def test_a_second_call_writes_nothing_and_says_it_again(letters: Database) -> None:
    bad = damage_all(letters)
    letters.sql(REENCRYPT)
    before = letters.sql("SELECT ctid::text, xmin::text FROM letter_encrypted ORDER BY id")
    assert [level for level, *_ in told(letters.admin, REENCRYPT)] == ["WARNING"]
    assert letters.sql("SELECT ctid::text, xmin::text FROM letter_encrypted ORDER BY id") == before
    assert letters.one("SELECT count(*) FROM envelope.faults") == len(bad)


def test_a_row_keeps_its_good_column_going(letters: Database) -> None:
    """Only the bad value of a row stays behind."""
    damage(letters, "cut", 20)
    letters.sql(REENCRYPT)
    newest = letters.one("SELECT substr(head, 1, 6) FROM letter_encrypted WHERE id = 1")
    assert letters.one("SELECT substr(head, 1, 6) FROM letter_encrypted WHERE id = 20") == newest
    assert letters.one("SELECT head FROM letter WHERE id = 20") == "head 20"


def test_retire_refuses_until_they_are_gone(own_letters: Database) -> None:
    damage(own_letters, "a flipped bit of the tag", 11)
    damage(own_letters, "an unknown key id", 12)
    own_letters.sql(REENCRYPT)
    with pytest.raises(psycopg.errors.ObjectInUse) as caught:
        own_letters.sql("CALL envelope.retire('letter', 1)")
    assert caught.value.diag.message_detail == 'values in "public"."letter_encrypted" under it: body: 1'
    own_letters.sql("DELETE FROM letter_encrypted WHERE id = 11")
    with pytest.raises(psycopg.errors.ObjectInUse) as caught:
        own_letters.sql("CALL envelope.retire('letter', 1)")
    assert "whose header names no key of their column: body: 1" in (caught.value.diag.message_detail or "")
    own_letters.sql("DELETE FROM letter_encrypted WHERE id = 12")
    own_letters.sql(REENCRYPT)
    assert own_letters.one(RECEIPT)["fields"][1]["zero_below"] == 2
    assert own_letters.sql(FAULTS) == []
    own_letters.sql("CALL envelope.retire('letter', 1)")


def test_a_compromised_key_stays_in_sight(own_letters: Database) -> None:
    damage(own_letters, "cut", 11)
    own_letters.sql("CALL envelope.rotate_emergency('letter', 'test')")
    assert own_letters.sql("SELECT version, state FROM envelope.keys WHERE relation IS NOT NULL ORDER BY 1") == [
        (1, "compromised"),
        (2, "compromised"),
        (3, "active"),
    ]
    state = "SELECT state, detail FROM envelope.status() WHERE check_name = 'compromised'"
    assert own_letters.sql(state)[0][0] == "warning"


def test_a_value_under_a_suspended_key_is_left_and_comes_back(own_letters: Database) -> None:
    kept = own_letters.one("SELECT body FROM letter_encrypted WHERE id = 5")
    own_letters.sql(REENCRYPT)
    own_letters.sql("CALL envelope.retire('letter', 1)")
    put_back(own_letters, kept, 5)
    own_letters.sql(REENCRYPT)
    assert own_letters.sql(FAULTS) == [("5", "key suspended")]
    own_letters.sql("CALL envelope.unsuspend('letter', version => 1)")
    own_letters.sql(REENCRYPT)
    assert own_letters.sql(FAULTS) == []
    assert readable(own_letters, {}) == as_written({})


def test_a_lost_key_is_one_keys_fault(own_letters: Database) -> None:
    """Its wrap was altered in the catalog: what is under it cannot be opened, and nothing else is concerned."""
    own_letters.sql("CREATE TABLE note (id int PRIMARY KEY, t text)")
    own_letters.sql("INSERT INTO note VALUES (1, 'one'), (2, 'two')")
    own_letters.sql("""CALL envelope.protect('note', '["t"]', store => 'catalog')""")
    own_letters.sql("SELECT envelope.rotate('note')")
    own_letters.sql("INSERT INTO note VALUES (3, 'three')")
    own_letters.sql("UPDATE envelope_private.dek SET wrapped = 'vault:v1:AAAA' WHERE store = 'catalog' AND version = 1")
    own_letters.sql("SELECT envelope.flush('test')")
    own_letters.sql("CALL envelope.reencrypt('note')")
    assert own_letters.sql(FAULTS) == [("1", "key lost"), ("2", "key lost")]
    assert own_letters.sql("SELECT t FROM note WHERE id = 3") == [("three",)]


def test_a_broker_that_is_down_stops_it(letters: Database, breakable: Stack) -> None:
    """No key at all says nothing of the values: none is called bad."""
    damage_all(letters)
    breakable.broker.stop()
    for call in (REENCRYPT, "CALL envelope.verify('letter')"):
        with letters.connect() as connection:
            assert failure(connection, call)[0] == "58000"
    assert letters.sql(FAULTS) == []
    assert old(letters) == list(range(1, ROWS + 1))
    breakable.broker.start()


def test_in_subject_scope(db: Database) -> None:
    """What was erased is not among them; what is under another subject's key, or none, is."""
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("INSERT INTO visit SELECT i, 'p' || i % 4, 'note ' || i FROM generate_series(1, 20) i")
    db.sql("""CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'person')""")
    db.sql("CALL envelope.shred('visit', 'p0', 'test')")
    db.sql("SELECT envelope.rotate('visit', 'p1')")
    db.sql(
        r"UPDATE visit_encrypted SET note = overlay(note::bytea placing '\xdeadbeef'::bytea from 3 for 4) WHERE id = 2"
    )
    db.sql("UPDATE visit_encrypted SET note = substr(note, 1, octet_length(note) - 1) WHERE id = 5")
    assert [level for level, *_ in told(db.admin, "CALL envelope.reencrypt('visit')")] == ["WARNING"]
    assert db.sql(FAULTS) == [("2", "key unknown"), ("5", "does not open")]
    db.sql("CALL envelope.verify('visit')")
    erased = [(str(i), "key destroyed") for i in (4, 8, 12, 16, 20)]
    assert db.sql(FAULTS) == sorted(
        [("2", "key unknown"), ("5", "does not open"), *erased], key=lambda row: int(row[0])
    )
    assert db.sql("SELECT note FROM visit WHERE person IN ('p1', 'p3') AND id <> 5 ORDER BY id") == [
        (f"note {i}",) for i in range(1, 21) if i % 4 in (1, 3) and i != 5
    ]


@pytest.mark.parametrize("force", [False, True])
def test_under_row_level_security(db: Database, force: bool) -> None:
    db.sql("CREATE TABLE letter (id int PRIMARY KEY, head text, body text); ALTER TABLE letter OWNER TO owner")
    db.sql("ALTER TABLE letter ENABLE ROW LEVEL SECURITY")
    db.sql("INSERT INTO letter SELECT i, 'head', 'a longer body' FROM generate_series(1, 20) i")
    db.sql("""CALL envelope.protect('letter', '["head", "body"]')""")
    db.sql("SELECT envelope.rotate('letter')")
    damage(db, "cut", 7)
    if force:
        db.sql("ALTER TABLE letter_encrypted FORCE ROW LEVEL SECURITY")
        assert failure(db.admin, REENCRYPT)[0] == failure(db.admin, "CALL envelope.verify('letter')")[0] == "0A000"
        return
    db.sql(REENCRYPT)
    assert db.sql(FAULTS) == [("7", "does not open")]


SHAPES = {
    "a composite key": ("a int, b text, v text, PRIMARY KEY (b, a)", "1, 'x', 'v'", "{}", {"a": "1", "b": "x"}),
    "no key": ("v text, n int", "'v', 1", '{"bind": "column"}', {"ctid": "(0,1)"}),
    "odd names": ('"o\'dd ""k" int PRIMARY KEY, v text', "1, 'v'", "{}", {"o'dd \"k": "1"}),
    "names of its own": (
        "place int PRIMARY KEY, old int, value_0 int, t int, v text",
        "1, 1, 1, 1, 'v'",
        "{}",
        {"place": "1"},
    ),
    "a date": (
        "d timestamptz PRIMARY KEY, v bytea",
        "'2026-01-02 03:04:05+06', 'v'",
        "{}",
        {"d": "2026-01-01 21:04:05+00"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_of_other_shapes(db: Database, shape: str) -> None:
    columns, values, options, row_key = SHAPES[shape]
    db.sql(f"CREATE TABLE shaped ({columns})")
    db.sql(f"INSERT INTO shaped VALUES ({values})")
    db.sql(f"""CALL envelope.protect('shaped', '{{"v": {options}}}')""")
    db.sql("SELECT envelope.rotate('shaped')")
    db.sql("SET timezone = 'Asia/Tokyo'")
    db.sql("UPDATE shaped_encrypted SET v = substr(v, 1, octet_length(v) - 1)")
    if shape == "no key":
        row_key = {"ctid": db.one("SELECT ctid::text FROM shaped_encrypted")}
    for call in ("CALL envelope.reencrypt('shaped')", "CALL envelope.verify('shaped')"):
        db.sql(call)
        assert db.sql("SELECT row_key, reason FROM envelope.faults") == [(row_key, "does not open")]


def test_two_jobs_at_once(letters: Database) -> None:
    bad = damage_all(letters)
    jobs = [Beside(letters, f"CALL envelope.reencrypt('letter', 5, part => {part}, parts => 2)") for part in (1, 2)]
    assert [job.end() for job in jobs] == [None, None]
    assert old(letters) == list(bad)
    assert letters.one("SELECT count(*) FROM envelope.faults") == len(bad)
    assert readable(letters, bad) == as_written(bad)


def test_a_kill_in_between(db: Database, stack: Stack) -> None:
    db.durable()
    db.sql("CREATE TABLE letter (id int PRIMARY KEY, head text, body text)")
    db.sql("INSERT INTO letter SELECT i, 'head ' || i, 'body ' || i FROM generate_series(1, 1000) i")
    db.sql("""CALL envelope.protect('letter', '["head", "body"]')""")
    with db.connect() as session:
        session.execute("SELECT envelope.rotate('letter')")
    bad = damage_all(db)
    job = Beside(db, "CALL envelope.reencrypt('letter', 50, pause_ms => 200)")
    until(db, "SELECT count(*) > 0 FROM envelope.progress WHERE blocks_done > 0", "the first batch")
    kill_backend(stack, job.pid)
    job.end()
    with Database(stack, db.name) as again:
        again.sql("CALL envelope.reencrypt('letter')")
        assert old(again) == list(bad)
        assert again.sql(FAULTS) == [(str(row), reason) for row, reason in bad.items()]


def test_who_sees_which_rows(db: Database, owner: psycopg.Connection) -> None:
    owner.execute("CREATE TABLE letter (id int PRIMARY KEY, head text, body text)")
    owner.execute("INSERT INTO letter SELECT i, 'head', 'a longer body' FROM generate_series(1, 20) i")
    db.sql("""CALL envelope.protect('letter', '["head", "body"]')""")
    damage(db, "cut", 11)
    db.sql("CALL envelope.verify('letter')")
    assert owner.execute("SELECT count(*) FROM envelope.faults").fetchone() == (1,)
    assert owner.execute("SELECT value_count, fault_count FROM envelope.verifications").fetchone() == (40, 1)
    owner.execute("GRANT ALL ON letter TO alice")
    for relation in ("faults", "verifications"):
        with db.connect("alice") as alice:
            assert alice.execute(f"SELECT count(*) FROM envelope.{relation}").fetchone() == (0,)
    for table in ("fault", "verification"):
        assert failure(owner, f"TABLE envelope_private.{table}")[0] == "42501"


flips = st.dictionaries(
    st.integers(1, ROWS), st.tuples(st.integers(2, 44), st.integers(1, 255)), min_size=1, max_size=8
)


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(flips=flips)
def test_any_flipped_byte(letters: Database, flips: dict[int, tuple[int, int]]) -> None:
    """Exactly the rows that were changed are found, none of them is changed again, and all others are as written."""
    saved = letters.sql("SELECT id, body FROM letter_encrypted")
    kept = letters.sql("SELECT envelope.rotate('letter')")
    assert kept
    for row, (place, bits) in flips.items():
        flip = (
            "set_byte(body, least(%s, octet_length(body) - 1), get_byte(body, least(%s, octet_length(body) - 1)) # %s)"
        )
        letters.sql(f"UPDATE letter_encrypted SET body = {flip} WHERE id = %s", place, place, bits, row)
    bad = dict.fromkeys(sorted(flips), "")
    damaged = [row[:2] for row in stored(letters, bad)]
    letters.sql(REENCRYPT)
    assert [row[:2] for row in stored(letters, bad)] == damaged
    assert readable(letters, bad) == as_written(bad)
    letters.sql("CALL envelope.verify('letter', anew => true)")
    assert [int(row) for row, _ in letters.sql(FAULTS)] == list(bad)
    for row in bad:
        put_back(letters, dict(saved)[row], row)
