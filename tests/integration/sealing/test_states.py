"""Keys change their state under a running client: it must behave as the server does."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pg_envelope import errors
from pg_envelope.backend.budget import BLOCK
from pg_envelope_client import Broker, ColumnKey, KeyClient
from tests.fix_stack import Database
from tests.integration.sealing.fix_door import DoorOfTests

INSERT = "INSERT INTO t_encrypted (id, v) VALUES (%s, %s)"


@pytest.fixture
def client(door: DoorOfTests) -> KeyClient:
    door.db.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    door.db.sql("CALL envelope.protect('t', '[\"v\"]', store => 'catalog')")
    return door.grant("t", "v")


@pytest.fixture
def key(client: KeyClient) -> ColumnKey:
    return client.field("t", "v")


def sqlstate(call: Callable[[], object]) -> str:
    try:
        call()
    except (psycopg.Error, errors.EnvelopeError) as error:
        return error.sqlstate or ""
    return "ok"


def retired(db: Database) -> None:
    db.sql("SELECT envelope.rotate('t')")
    db.sql("CALL envelope.reencrypt('t')")
    db.sql("CALL envelope.retire('t', 1)")


def destroyed(db: Database) -> None:
    retired(db)
    db.sql("SELECT envelope.set_schedule('dek', '90 days', 'public.t', grace => '0')")
    db.sql("CALL envelope.retire('t', 1, true)")


@pytest.mark.parametrize("make", [retired, destroyed])
def test_a_late_envelope_is_refused_and_the_table_stays_readable(
    door: DoorOfTests, key: ColumnKey, client: KeyClient, make: Callable[[Database], None]
) -> None:
    db = door.db
    db.sql(INSERT, 1, key.seal("one", 1))
    late, moved = key.seal("late", 2), key.seal("moved", 1)
    make(db)
    alice = db.connect("alice")
    for statement, values in ((INSERT, (2, late)), ("UPDATE t_encrypted SET v = %s", (moved,))):
        with pytest.raises(psycopg.Error, match="not active") as refused:
            alice.execute(statement, values)
        assert refused.value.sqlstate == "55000"
        assert "key catalog again" in str(refused.value.diag.message_hint)
    client.refresh()
    db.sql(INSERT, 2, key.seal("again", 2))
    assert db.sql("SELECT v FROM t ORDER BY id") == [("one",), ("again",)]


def test_a_transaction_that_began_before_a_retirement_writes_nothing_under_the_retired_key(
    door: DoorOfTests, key: ColumnKey
) -> None:
    db = door.db
    late = key.seal("late", 2)
    alice = db.connect("alice")
    alice.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    alice.execute("SELECT 1")
    # No re-encryption, which would wait for the transaction: the table is empty.
    db.sql("SELECT envelope.rotate('t')")
    db.sql("CALL envelope.retire('t', 1)")
    assert sqlstate(lambda: alice.execute(INSERT, (2, late))) == "40001"
    alice.execute("ROLLBACK")
    assert db.sql("SELECT v FROM t") == []


def test_a_rotation_is_followed(door: DoorOfTests, key: ColumnKey, client: KeyClient) -> None:
    db = door.db
    old = key.seal("old", 1)
    db.sql("SELECT envelope.rotate('t')")
    client.refresh()
    new = key.seal("new", 1)
    assert old is not None
    assert new is not None
    assert old[2:6] != new[2:6]
    assert (key.open(old, 1), key.open(new, 1)) == ("old", "new")


@pytest.mark.parametrize("change", ["rotate('t')", "rotate_field('t', 'v')"])
def test_after_a_rotation_a_client_that_nobody_refreshed_goes_on(
    door: DoorOfTests, key: ColumnKey, change: str
) -> None:
    db = door.db
    db.sql(INSERT, 1, key.seal("one", 1))
    db.sql(f"SELECT envelope.{change}")
    db.sql(INSERT, 2, key.seal("two", 2))
    db.sql("INSERT INTO t VALUES (3, 'three')")
    stored = db.sql("SELECT id, v::bytea FROM t_encrypted ORDER BY id")
    assert [key.open(sealed, number) for number, sealed in stored] == ["one", "two", "three"]
    assert stored[0][1][2:6] != stored[1][1][2:6] == stored[2][1][2:6]


def test_what_the_server_wrote_under_a_new_key_opens_at_once(door: DoorOfTests, client: KeyClient) -> None:
    db = door.db
    key = door.client(check_seconds=3600).field("t", "v")
    own = key.seal("own", 1)
    db.sql("SELECT envelope.rotate('t')")
    db.sql("INSERT INTO t VALUES (1, 'its')")
    its = db.one("SELECT v::bytea FROM t_encrypted")
    assert own is not None
    assert own[2:6] != its[2:6]
    assert (key.open(own, 1), key.open(its, 1)) == ("own", "its")


def test_the_active_key_is_asked_for_again_in_time(door: DoorOfTests, client: KeyClient) -> None:
    running = door.client(check_seconds=3600)
    key, ring = running.field("t", "v"), running._ring
    first = key.seal("v", 1)
    door.db.sql("SELECT envelope.rotate('t')")
    second = key.seal("v", 1)
    for place, active in ring._active.items():
        assert active.check_at == active.until, "an hour is longer than a key may stay active without an answer"
        ring._active[place] = active._replace(check_at=0.0)
    third = key.seal("v", 1)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first[2:6] == second[2:6] != third[2:6]


def lost() -> psycopg.Connection[Any]:
    raise psycopg.OperationalError("no route")


def test_without_the_key_catalog_the_active_key_goes_on_for_its_time(door: DoorOfTests, client: KeyClient) -> None:
    key = client.field("t", "v")
    sealed = key.seal("v", 1)
    client._catalog.close()
    client._catalog._connect = lost
    assert sealed is not None
    assert (key.seal("v", 1) or b"")[2:6] == sealed[2:6]
    ring = client._ring
    for place, active in ring._active.items():
        assert active.check_at <= active.until
        ring._active[place] = active._replace(until=0.0)
    with pytest.raises(errors.Unavailable):
        key.seal("v", 1)


def test_a_field_key_under_a_running_client_is_suspended_with_its_dek(door: DoorOfTests, key: ColumnKey) -> None:
    """Three field keys of one DEK: each opens, and none when the DEK is suspended."""
    sealed = [key.seal("0", 0)]
    for number in (1, 2):
        door.db.sql("SELECT envelope.rotate_field('t', 'v')")
        sealed.append(key.seal(str(number), number))
    assert len({one[2:6] for one in sealed if one}) == 3
    assert [key.open(one, number) for number, one in enumerate(sealed)] == ["0", "1", "2"]
    door.db.sql("CALL envelope.suspend('t')")
    for number, one in enumerate(sealed):
        with pytest.raises(errors.KeySuspended):
            key.open(one, number)
    door.db.sql("CALL envelope.unsuspend('t')")
    assert [key.open(one, number) for number, one in enumerate(sealed)] == ["0", "1", "2"]


def test_a_client_at_the_unix_socket_follows_flush_and_suspend(door: DoorOfTests, client: KeyClient) -> None:
    db = door.db
    users = door.broker.config()["broker"].get("allowed_users", [])
    door.broker.configure({"broker": {"allowed_users": [*users, os.getuid()]}})
    door.broker.restart()
    connect = functools.partial(db.stack.connect, db.name, "alice")
    with KeyClient(Broker(str(door.broker.socket)), connect, check_seconds=0) as local:
        key = local.field("t", "v")
        sealed = key.seal("v", 1)
        before = local.generation
        db.sql("SELECT envelope.flush('test')")
        assert local.generation > before
        assert key.open(sealed, 1) == "v"
        db.sql("CALL envelope.suspend('t')")
        for call in (lambda: key.open(sealed, 1), lambda: key.seal("v", 1)):
            with pytest.raises(errors.KeySuspended):
                call()
        db.sql("CALL envelope.unsuspend('t')")
        db.sql("SELECT envelope.revoke_client('t', 'v', 'alice')")
        db.sql("SELECT envelope.flush('test')")
        with pytest.raises(errors.NotPermitted):
            key.open(sealed, 1)


def test_a_suspended_key_opens_nothing_until_it_comes_back(door: DoorOfTests, key: ColumnKey) -> None:
    sealed = key.seal("v", 1)
    door.db.sql("CALL envelope.suspend('t')")
    for call in (lambda: key.open(sealed, 1), lambda: key.seal("v", 1)):
        with pytest.raises(errors.KeySuspended):
            call()
    door.db.sql("CALL envelope.unsuspend('t')")
    assert key.open(sealed, 1) == "v"


def test_a_flush_makes_the_client_ask_again(door: DoorOfTests, key: ColumnKey) -> None:
    sealed = key.seal("v", 1)
    door.db.sql("SELECT envelope.revoke_client('t', 'v', 'alice')")
    assert key.open(sealed, 1) == "v", "it holds the key until it asks again"
    door.db.sql("SELECT envelope.flush('test')")
    with pytest.raises(errors.NotPermitted):
        key.open(sealed, 1)


@pytest.mark.parametrize("erased", ["error", "null"])
def test_erased_subjects(door: DoorOfTests, erased: str) -> None:
    db = door.db
    db.sql("CREATE TABLE s (id int PRIMARY KEY, who text NOT NULL, v text)")
    db.sql("CALL envelope.protect('s', '[\"v\"]', scope => 'subject', scope_column => 'who', erased => %s)", erased)
    key = door.grant("s", "v").field("s", "v")
    ann, ben = key.seal("a", ("ann", 1)), key.seal("b", ("ben", 2))
    db.sql("INSERT INTO s_encrypted VALUES (1, 'ann', %s), (2, 'ben', %s)", ann, ben)
    db.sql("CALL envelope.shred('s', 'ann', 'asked')")
    if erased == "null":
        assert key.open(ann, ("ann", 1)) is None
        with pytest.raises(errors.InvalidEnvelope):
            key.open(ann, ("ben", 2))
    else:
        with pytest.raises(errors.KeyDestroyed):
            key.open(ann, ("ann", 1))
    with pytest.raises(errors.KeyDestroyed):
        key.seal("a", ("ann", 1))
    assert key.open(ben, ("ben", 2)) == "b"


def test_a_role_without_the_grant_learns_nothing(door: DoorOfTests, client: KeyClient) -> None:
    bob = door.client("bob")
    for table, column in (("t", "v"), ("t", "id"), ("t", "nothing")):
        with pytest.raises(errors.NotPermitted):
            bob.field(table, column)
    with pytest.raises(errors.NotPermitted):
        bob.named("t")
    uuid = str(client.field("t", "v")._layout.field)
    for query in (
        f"client_key('{uuid}', 1, NULL)",
        f"client_messages('{uuid}', 1, 1)",
        f"client_key('{uuid}', NULL, NULL)",
    ):
        assert sqlstate(lambda query=query: door.db.sql(f"SELECT envelope_internal.{query}", user="bob")) == "42501"


ODD_NAMES: list[Any] = [
    "",
    "no",
    "t; DROP TABLE t",
    '"t',
    "a.b.c.d",
    "t\0",
    "\ud800",
    "x" * 70_000,
    None,
    7,
    b"t",
    ["t"],
]


def test_names_that_name_nothing(client: KeyClient) -> None:
    for name in ODD_NAMES:
        calls: list[Callable[[], object]] = [
            lambda name=name: client.field(name, "v"),  # type: ignore[misc]
            lambda name=name: client.field("t", name),  # type: ignore[misc]
            lambda name=name: client.search(name, "v_search"),  # type: ignore[misc]
            lambda name=name: client.search("t", name),  # type: ignore[misc]
            lambda name=name: client.named(name),  # type: ignore[misc]
        ]
        for number, call in enumerate(calls):
            with pytest.raises(errors.EnvelopeError) as refused:
                pytest.fail(f"{str(name)[:20]!r} as name {number} gave {call()}")
            assert not isinstance(refused.value, errors.Unavailable), number
    assert client.field("t", "v").seal("v", 1) is not None


ODD_ROW_KEYS: list[Any] = [None, "1", 1.0, True, (), (1, 2), {}, {"id": None}, {"other": 1}, [1], b"1", 2**31, object()]


def test_row_keys_that_are_none(key: ColumnKey) -> None:
    sealed = key.seal("v", 1)
    for row_key in ODD_ROW_KEYS:
        for call in (lambda row_key=row_key: key.seal("v", row_key), lambda row_key=row_key: key.open(sealed, row_key)):  # type: ignore[misc]
            with pytest.raises(errors.BadInput):
                pytest.fail(f"{row_key!r} gave {call()!r}")


def test_messages_are_counted(door: DoorOfTests, key: ColumnKey) -> None:
    counter = f"envelope_private.messages_{key._layout.field.hex}"
    before = door.db.one(f"SELECT coalesce(pg_sequence_last_value('{counter}'), 0)")
    for number in range(BLOCK + 1):
        key.seal("v", number)
    # One block, then two at once.
    assert door.db.one(f"SELECT pg_sequence_last_value('{counter}')") == before + 3


def test_a_rollback_gives_no_messages_back(door: DoorOfTests, client: KeyClient) -> None:
    """Neither that of the application's transaction, nor that of a connection which was given in a transaction."""
    db = door.db
    given = db.stack.connect(db.name, "alice")
    given.autocommit = False
    with KeyClient(door.connect(), lambda: given, check_seconds=0) as running:
        key = running.field("t", "v")
        counter = f"SELECT coalesce(pg_sequence_last_value('envelope_private.messages_{key._layout.field.hex}'), 0)"
        before = db.one(counter)
        alice = db.connect("alice")
        with alice.transaction(force_rollback=True):
            alice.execute(INSERT, (1, key.seal("v", 1)))
        assert db.sql("SELECT v FROM t") == []
        assert given.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert db.one(counter) == before + 1
    again = client.field("t", "v")
    again.seal("v", 1)
    assert db.one(counter) == before + 2


def test_bad_envelopes_are_one_error(key: ColumnKey) -> None:
    sealed = key.seal("v", 1)
    assert sealed is not None
    flipped = [sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :] for place in range(len(sealed))]
    for bad in (b"", sealed[:-1], sealed[:6], b"plain", *flipped):
        with pytest.raises(errors.InvalidEnvelope):
            key.open(bad, 1)
    with pytest.raises(errors.InvalidEnvelope):
        key.open(sealed, 2)


def test_threads_a_fork_and_an_event_loop(door: DoorOfTests, client: KeyClient, key: ColumnKey) -> None:
    asyncio.run(client.warm(key))
    with ThreadPoolExecutor(4) as pool:
        sealed = list(pool.map(lambda number: key.seal(str(number), number), range(300)))
    assert [key.open(one, number) for number, one in enumerate(sealed)] == [str(number) for number in range(300)]
    child = os.fork()
    if not child:
        os._exit(0 if key.open(sealed[7], 7) == "7" and key.open(key.seal("c", 1), 1) == "c" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert key.open(key.seal("after", 1), 1) == "after"


def test_while_the_broker_is_away_held_keys_go_on(door: DoorOfTests, key: ColumnKey, client: KeyClient) -> None:
    sealed = key.seal("v", 1)
    door.broker.stop()
    assert key.open(sealed, 1) == "v"
    client.refresh()
    with pytest.raises(errors.Unavailable):
        key.open(sealed, 1)
    door.broker.start()
    assert key.open(sealed, 1) == "v"


def test_values_that_do_not_fit_are_refused_before_they_are_sealed(door: DoorOfTests) -> None:
    db = door.db
    kinds: dict[str, tuple[Any, ...]] = {
        "int": ("7", 2**31, True, 1.0),
        "varchar(3)": ("four", 7),
        "numeric(4,2)": (100, "1", float("nan")),
        "jsonb": ({1: 2}, object(), float("inf"), "\0"),
        "timestamptz": ("soon", 7),
        "bytea": ("text",),
        "text": (b"bytes", "\0", "\ud800"),
        "real": (1e300,),
    }
    columns = ", ".join(f"v{number} {kind}" for number, kind in enumerate(kinds))
    db.sql(f"CREATE TABLE w (id int PRIMARY KEY, {columns})")
    names = [f"v{number}" for number in range(len(kinds))]
    db.sql("CALL envelope.protect('w', to_jsonb(%s::text[]))", names)
    client = door.grant("w", *names)
    for name, values in zip(names, kinds.values(), strict=True):
        key = client.field("w", name)
        for value in values:
            with pytest.raises(errors.BadInput) as refused:
                key.seal(value, 1)
            assert "four" not in str(vars(refused.value))
