"""The procedures that are proven, one entry each. After a crash each goes on as the runbooks tell people to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from stack.openbao import OpenBao

from .world import PROTECT, World, expect

OTHER_KEK = "other"
TRANSIT = "transit/keys/pg-envelope-default"
# More than one batch of rewrap() in each store.
MANY_KEYS = """
SELECT envelope.create_key('vault ' || i, store => 'vault') FROM generate_series(1, 60) i;
SELECT envelope.create_key('catalog ' || i, store => 'catalog') FROM generate_series(1, 30) i"""
KIND = "SELECT relkind FROM pg_class WHERE oid = 'person'::regclass"
PROTECT_ONLINE = PROTECT.replace("]')", "]', online => true, batch_size => 100, pause_ms => 10)")
UNPROTECT_ONLINE = "CALL envelope.unprotect('person', online => true, batch_size => 100, pause_ms => 10)"
UNDER_WAY = """
SELECT EXISTS (SELECT FROM envelope_private.protected_table
    WHERE view = 'person'::regclass AND rollout IS NOT NULL)"""
REENCRYPT = "CALL envelope.reencrypt('person', 60)"
REWRAP = "CALL envelope.rewrap('default')"


def nothing(_: World) -> None:
    """For what a procedure does not need."""


@dataclass(frozen=True)
class Procedure:
    """`before` makes work for it; `go_on` is what is documented for after a crash; `done` checks that it did its work.

    `prepare` is run once in a new database. Any of them may be called when the procedure has ended well, too.
    """

    name: str
    statement: Callable[[World], str]
    go_on: Callable[[World], None]
    done: Callable[[World], None]
    before: Callable[[World], None] = nothing
    prepare: Callable[[World], None] = nothing
    protected: bool = True


def is_plain(world: World) -> bool:
    return bool(world.one(KIND) == "r")


def make_plain(world: World) -> None:
    if not is_plain(world):
        world.sql("CALL envelope.unprotect('person')")


def make_protected(world: World) -> None:
    if is_plain(world):
        world.sql(PROTECT)


def make_protected_online(world: World) -> None:
    """The same call goes on, and takes back an unprotect that did not end."""
    if is_plain(world) or world.one(UNDER_WAY):
        world.sql(PROTECT_ONLINE)


def make_plain_online(world: World) -> None:
    if not is_plain(world):
        world.sql(UNPROTECT_ONLINE)


def check_protected(world: World) -> None:
    expect("kind of person", world.one(KIND), "v")
    world.check_no_old("person_encrypted", "email", "note")


def check_plain(world: World) -> None:
    expect("kind of person", world.one(KIND), "r")


def remember(key: str) -> Callable[[World], None]:
    """Notes a key's version before the procedure."""

    def before(world: World) -> None:
        world.memo["version"] = world.version(key)

    return before


def again(key: str, statement: str) -> Callable[[World], None]:
    """It did all or nothing: call it again when the version is still the old one."""

    def go_on(world: World) -> None:
        if world.version(key) == world.memo["version"]:
            world.sql(statement)

    return go_on


def check_one_more(key: str) -> Callable[[World], None]:
    def done(world: World) -> None:
        expect(f"version of {key}", world.version(key), world.memo["version"] + 1)

    return done


FIELD_VERSION = """
SELECT max(fk.version) FROM envelope_private.field_key fk JOIN envelope_private.field f USING (field_uuid)
JOIN envelope_private.key k USING (key_uuid) WHERE k.view = 'person'::regclass AND f.attname = 'email'"""
ROTATE_FIELD = "SELECT envelope.rotate_field('person', 'email')"


def remember_field(world: World) -> None:
    world.memo["version"] = world.one(FIELD_VERSION)


def rotate_field_again(world: World) -> None:
    if world.one(FIELD_VERSION) == world.memo["version"]:
        world.sql(ROTATE_FIELD)


def check_field(world: World) -> None:
    expect("version of the field", world.one(FIELD_VERSION), world.memo["version"] + 1)


def emergency_again(world: World) -> None:
    """docs/runbooks/emergency.md, "It stopped"."""
    if world.version("person") == world.memo["version"]:
        world.sql(EMERGENCY)
    else:
        world.sql("SELECT envelope.flush('emergency')")
        world.sql(REENCRYPT)


EMERGENCY = "CALL envelope.rotate_emergency('person', 'proof')"
STATES = "SELECT version, state FROM envelope.keys WHERE relation = 'person'::regclass ORDER BY version"


def check_emergency(world: World) -> None:
    newest = world.memo["version"] + 1
    states = [(i, "compromised") for i in range(1, newest)] + [(newest, "active")]
    expect("states", world.sql(STATES), states)
    world.check_no_old("person_encrypted", "email", "note")


def kek_version(openbao: OpenBao) -> int:
    return int(openbao.request("GET", TRANSIT)["data"]["latest_version"])


def remember_kek(world: World) -> None:
    world.memo["kek"] = kek_version(world.stack.openbao)


def rotate_transit(world: World) -> None:
    world.stack.openbao.request("POST", f"{TRANSIT}/rotate")
    remember_kek(world)


def check_kek(world: World) -> None:
    """Other databases rotate the same KEK meanwhile: their versions may be there, or not."""
    behind = (
        f"SELECT count(*) FROM envelope_private.dek WHERE state <> 'destroyed' AND kek_version < {world.memo['kek']}"
    )
    expect("DEKs under an old KEK version", world.one(behind), 0)


def new_name(world: World) -> None:
    world.memo["name"] = f"new {world.one('SELECT count(*) FROM envelope_private.key')}"


def create_key(world: World) -> str:
    return f"SELECT envelope.create_key('{world.memo['name']}')"


def create_again(world: World) -> None:
    if not world.one("SELECT count(*) FROM envelope.keys WHERE name = %s", world.memo["name"]):
        world.sql(create_key(world))


def check_created(world: World) -> None:
    sealed = "SELECT envelope.decrypt(envelope.encrypt('x', %s), '')"
    expect("what the new key opens", world.one(sealed, world.memo["name"]), "x")


def rotate_cold(world: World) -> None:
    """The keys must come from the KMS again."""
    world.sql("SELECT envelope.rotate('person')")
    world.sql("SELECT envelope.flush('cold')")


def same(statement: str) -> Callable[[World], str]:
    return lambda _: statement


def call(statement: str) -> Callable[[World], None]:
    def go_on(world: World) -> None:
        world.sql(statement)

    return go_on


LEASED = """
CREATE TABLE {0} (id int PRIMARY KEY, body text); INSERT INTO {0} VALUES (1, 'leased');
CALL envelope.protect('{0}', '["body"]'); SELECT envelope.rotate('{0}')"""
SUSPEND, UNSUSPEND = "CALL envelope.suspend('leased', reason => 'proof')", "CALL envelope.unsuspend('leased')"


def reads(world: World, table: str) -> bool:
    """Whether its row reads; any other reason than a suspended or destroyed key is an error."""
    world.sql("SELECT envelope.flush('proof')")
    try:
        return world.sql(f"SELECT body FROM {table}") == [("leased",)]
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return False


def make_unsuspended(world: World) -> None:
    if not reads(world, "leased"):
        world.sql(UNSUSPEND)


def make_suspended(world: World) -> None:
    if reads(world, "leased"):
        world.sql(SUSPEND)


def check_unsuspended(world: World) -> None:
    expect("leased reads", reads(world, "leased"), True)


def check_suspended(world: World) -> None:
    expect("leased reads", reads(world, "leased"), False)


def new_table(world: World) -> None:
    """A table to shred."""
    world.memo["table"] = table = f"gone_{world.one('SELECT count(*) FROM envelope_private.key')}"
    world.sql(LEASED.format(table))


def shred(world: World) -> str:
    return f"CALL envelope.shred('{world.memo['table']}', reason => 'proof')"


def shred_again(world: World) -> None:
    world.sql(shred(world))


def check_shredded(world: World) -> None:
    expect("a shredded table reads", reads(world, world.memo["table"]), False)
    living = "SELECT count(*) FROM envelope.keys WHERE relation = %s::regclass AND state <> 'destroyed'"
    expect("living versions of a shredded table", world.one(living, world.memo["table"]), 0)


TENANTS = """
CREATE TABLE shop (id int PRIMARY KEY, tenant text NOT NULL, body text);
INSERT INTO shop SELECT id, 'tenant ' || id % 5, 'body ' || id FROM generate_series(1, 50) id"""
PROTECT_SHOP = "CALL envelope.protect('shop', '[\"body\"]', scope => 'tenant', scope_column => 'tenant')"
SHOP_KIND = "SELECT relkind FROM pg_class WHERE oid = 'shop'::regclass"
SHOP = "SELECT count(*), count(DISTINCT id) FROM shop WHERE body = 'body ' || id"


def plain_shop(world: World) -> None:
    if world.one(SHOP_KIND) == "v":
        world.sql("CALL envelope.unprotect('shop')")


def protect_shop(world: World) -> None:
    if world.one(SHOP_KIND) == "r":
        world.sql(PROTECT_SHOP)


def check_shop(world: World) -> None:
    expect("kind of shop", world.one(SHOP_KIND), "v")
    expect("rows of shop, exact", world.sql(SHOP), [(50, 50)])


IN_KEK = "SELECT count(*) FROM envelope_private.dek WHERE kek = 'default' AND state <> 'destroyed'"


def choose_kek(world: World) -> None:
    """To the other KEK, and the next time back."""
    keks = ("default", OTHER_KEK) if world.one(IN_KEK) else (OTHER_KEK, "default")
    world.memo["from"], world.memo["to"] = keks


def move_kek(world: World) -> str:
    return f"CALL envelope.move_kek('{world.memo['from']}', '{world.memo['to']}')"


def move_again(world: World) -> None:
    world.sql(move_kek(world))


def check_moved(world: World) -> None:
    left = "SELECT count(*) FROM envelope_private.dek WHERE state <> 'destroyed' AND kek = %s"
    expect("DEKs left under the old KEK", world.one(left, world.memo["from"]), 0)


ADD_SEARCH = """CALL envelope.add_search('person', 'email', '{"exact": {"force": true}}', 60)"""
ROTATE_SEARCH = "CALL envelope.rotate_search('person', 'email', batch_size => 60)"
KEY_UUID = """
SELECT f.key_uuid::text FROM envelope_private.search s JOIN envelope_private.field f ON f.field_uuid = s.search_uuid
WHERE s.attname = 'email_search' AND s.is_filled"""


def drop_search(world: World) -> None:
    if world.one("SELECT count(*) FROM envelope.searches"):
        world.sql("CALL envelope.drop_search('person', 'email')")


def add_search_again(world: World) -> None:
    if not world.one(f"SELECT count(*) FROM ({KEY_UUID}) s"):
        world.sql(ADD_SEARCH)


def remember_search(world: World) -> None:
    add_search_again(world)
    world.memo["search"] = world.one(KEY_UUID)


def rotate_search_again(world: World) -> None:
    if world.one(KEY_UUID) == world.memo["search"]:
        world.sql(ROTATE_SEARCH)


def check_tokens(world: World) -> None:
    expect("search columns that are ready", world.one("SELECT bool_and(state = 'ready') FROM envelope.searches"), True)
    world.sql("CALL envelope.verify('person')")
    expect("wrong tokens", world.one("SELECT count(*) FROM envelope.faults WHERE reason = 'wrong token'"), 0)


def check_new_search(world: World) -> None:
    check_tokens(world)
    expect("another search key", world.one(KEY_UUID) != world.memo["search"], True)


ROTATE, ROTATE_KEY = "SELECT envelope.rotate('person')", "SELECT envelope.rotate_key('api')"
PROCEDURES = (
    Procedure("protect", same(PROTECT), make_protected, check_protected, before=make_plain, protected=False),
    Procedure("unprotect", same("CALL envelope.unprotect('person')"), make_plain, check_plain, before=make_protected),
    Procedure(
        "protect_online",
        same(PROTECT_ONLINE),
        make_protected_online,
        check_protected,
        before=make_plain_online,
        protected=False,
    ),
    Procedure(
        "unprotect_online",
        same(UNPROTECT_ONLINE),
        make_plain_online,
        check_plain,
        before=make_protected_online,
        protected=False,
    ),
    Procedure("rotate", same(ROTATE), again("person", ROTATE), check_one_more("person"), before=remember("person")),
    Procedure("rotate_field", same(ROTATE_FIELD), rotate_field_again, check_field, before=remember_field),
    Procedure(
        "reencrypt",
        same(REENCRYPT),
        call(REENCRYPT),
        lambda world: world.check_no_old("person_encrypted", "email", "note"),
        before=rotate_cold,
    ),
    Procedure(
        "rotate_kek",
        same("CALL envelope.rotate_kek('default')"),
        call(REWRAP),
        check_kek,
        remember_kek,
        call(MANY_KEYS),
    ),
    Procedure("rewrap", same(REWRAP), call(REWRAP), check_kek, rotate_transit, call(MANY_KEYS)),
    Procedure("rotate_emergency", same(EMERGENCY), emergency_again, check_emergency, before=remember("person")),
    Procedure("create_key", create_key, create_again, check_created, before=new_name),
    Procedure(
        "suspend", same(SUSPEND), make_suspended, check_suspended, make_unsuspended, call(LEASED.format("leased"))
    ),
    Procedure(
        "unsuspend", same(UNSUSPEND), make_unsuspended, check_unsuspended, make_suspended, call(LEASED.format("leased"))
    ),
    Procedure("shred", shred, shred_again, check_shredded, new_table),
    Procedure("protect_scoped", same(PROTECT_SHOP), protect_shop, check_shop, plain_shop, call(TENANTS)),
    Procedure("move_kek", move_kek, move_again, check_moved, choose_kek, call(MANY_KEYS)),
    Procedure("add_search", same(ADD_SEARCH), add_search_again, check_tokens, before=drop_search),
    Procedure("rotate_search", same(ROTATE_SEARCH), rotate_search_again, check_new_search, before=remember_search),
    Procedure("rotate_key", same(ROTATE_KEY), again("api", ROTATE_KEY), check_one_more("api"), before=remember("api")),
)
QUICK = {"protect", "protect_online", "rotate", "reencrypt", "rotate_kek", "rotate_emergency", "shred", "move_kek"}
