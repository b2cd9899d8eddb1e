"""Django over protected tables: models, catalog and commands see what they see over plain ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fix_stack import Database, Fill
from tests.integration.orms import fix_site

PARTS = ("catalog", "operations")


def make(db: Database) -> Database:
    fix_site.manage(db, "migrate", "--run-syncdb", "--verbosity", "0")
    return db


def fill(db: Database) -> None:
    make(db)


@pytest.fixture
def plain(filled: Callable[[Fill], Database]) -> Database:
    """The site's tables, which no key protects yet: a copy, for tests that destroy none."""
    return filled(fill)


@pytest.fixture(scope="module")
def twins(shared_db: Database) -> list[list[Any]]:
    """What the site's parts see of plain tables, and of the same tables when they are protected."""
    plain = fix_site.seen(make(shared_db), *PARTS)
    fix_site.protect(shared_db)
    return [plain, fix_site.seen(shared_db, *PARTS)]


@pytest.fixture
def site(shared_db: Database, twins: object) -> Database:
    return shared_db


def test_the_operations_see_no_difference(twins: list[list[Any]]) -> None:
    (_, plain), (_, sealed) = twins
    # One by one, for a message that can be read.
    for before, after in zip(plain, sealed, strict=True):
        assert after == before


def test_the_catalog_is_that_of_the_plain_tables(twins: list[list[Any]]) -> None:
    (plain, _), (sealed, _) = twins
    indexes = sealed["facts"].pop("shop_thing")[-1]
    of_plain = plain["facts"].pop("shop_thing")[-1]
    assert of_plain == [fact for fact in indexes if not fact[0].endswith("_search_idx")]
    assert [fact["columns"] for _, fact in indexes if fact["index"]] == [[name] for name in sorted(fix_site.SEARCHED)]
    assert sealed == plain


def test_encrypted_fields_find_by_tokens(site: Database) -> None:
    (found,) = fix_site.seen(site, "tokens")
    assert (found["differences"], found["without_index"]) == ({}, [])
    assert found["too_large"] == [0, 1]
    assert [text for text in found["refused"] if "encrypted" not in text] == []
    assert found["taken"] == [
        ["ada"],
        ["ada", "alan"],
        ["ada"],
        ["ada", "alan"],
        ["alan"],
        ["True", "True"],
        ["1"],
        ["ada", "alan"],
        ["ada"],
        ["ada"],
        [],
        ["ada@example.org", "0"],
    ]
    assert found["columns"] == ["django.db.models.EmailField", "EmailField", True]


def test_the_admin_and_fixtures(site: Database) -> None:
    (seen,) = fix_site.seen(site, "admin")
    assert seen == {
        "list": ["ada", "alan"],
        "search": ["ada"],
        "part": [],
        "headers": ["?o=1"],
        "change": True,
        "added": 302,
        "twice": True,
        "found": "1906-12-09",
        "fixture": [True, 1],
    }
    assert site.one("SELECT count(*) FROM shop_customer_encrypted WHERE strpos(email::text, 'grace') > 0") == 0


def test_more_objects_than_parameters(site: Database) -> None:
    assert fix_site.seen(site, "large") == [[True, True]]


def test_operations_of_migrations_and_their_way_back(plain: Database) -> None:
    (seen,) = fix_site.seen(plain, "migrations", user="postgres")
    added = ["text_search", "text_loose", "text_match", "big_range"]
    upsert, every = "shop_thing_upsert", ["shop_thing_upsert", sorted(added)]
    growing = [[upsert, sorted(added[:count])] for count in range(len(added))]
    forwards = [None, *growing, every, every, every, None, [None, []]]
    assert [facts for _, facts in seen["protected"]] == [*forwards, *reversed(forwards[:-1])]
    assert {json.dumps(rows) for rows, _ in seen["protected"]} == {'[["A text", 7]]'}
    assert seen["as_written"]
    assert [error.partition(":")[0] for error in seen["refused"]] == ["NotSupportedError"] * 2 + ["FieldDoesNotExist"]
    assert seen["rolled_back"] == [True, False] * 2
    assert all("atomic = False" in error for error in seen["refused"][:2])


def test_options_of_fields(plain: Database) -> None:
    (seen,) = fix_site.seen(plain, "options", user="postgres")
    assert seen["differences"] == {}
    assert seen["changes"] == [[], []], "makemigrations finds nothing to do"
    *done, ends, begins, index, longer = seen["altered"]
    assert done == [None] * 7
    assert 'AlterUnique("Sealed", "alone", False)' in ends
    assert 'AlterUnique("Sealed", "kind", True)' in begins
    assert 'AddSearch("Sealed", "empty")' in index
    assert "the type of column short cannot be changed" in longer
    at_first = [["alone", True], ["checked", False], ["kind", False], ["often", False]]
    kind, alone = [True, "IntegrityError", True], [False, "1", True]
    with_kind = [["alone", True], ["checked", False], ["kind", True], ["often", False]]
    assert seen["turned"] == [at_first, kind, with_kind, True, alone, [["alone", False], *at_first[1:]], True]
    assert seen["interrupted"] == [["IntegrityError", "23505"], 2, True, 1, True]
    assert seen["plain"] == ["IntegrityError", [["alone", False], ["alone", True], ["kind", True], ["often", False]]]


def test_dumpdata_refuses_values_in_the_clear(site: Database) -> None:
    (seen,) = fix_site.seen(site, "dumps")
    for error in seen["refused"]:
        assert error.startswith("before: dumpdata would write values of protected tables in the clear: shop.Customer")
    assert seen["written"] == [["a"], ["a"], [], ["Ada"]]


def test_a_statement_that_fails_leaves_no_value_in_the_log(site: Database) -> None:
    log, marker = Path(site.stack.cluster.log), "marker-of-a-failing-insert"
    begin = log.stat().st_size
    code = f"from shop.models import Customer; [Customer.objects.create(login='x', name='{marker}') for _ in '12']"
    done = fix_site.run(site, "-m", "django", "shell", "-c", code)
    assert "IntegrityError" in done.stderr
    with log.open() as lines:
        lines.seek(begin)
        written = lines.read()
    assert 'INSERT INTO "shop_customer"' in written
    assert marker not in written


def test_keys_and_rights_change_under_a_running_application(db: Database) -> None:
    make(db)
    email = '{"email": {"index": "drop"}}'
    db.sql(f"CALL envelope.protect('shop_customer', '{email}', store => 'catalog')")
    db.sql("GRANT ALL ON shop_customer TO alice; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO alice")
    done = fix_site.run(db, str(fix_site.SITE / "changes_seen.py"), user="alice")
    assert done.returncode == 0, done.stdout + done.stderr
    told, is_same_session = json.loads(done.stdout)
    assert is_same_session
    good = [f"{number}@example.org {number}@example.org" for number in (0, 1, 3, 5, 6)]
    assert told == {
        "nothing": ["stored", *good[:1]],
        "rotate": ["stored", *good[:2]],
        "suspend": ["55000", *["55000 55000"] * 2],
        "unsuspend": ["stored", *good[:3]],
        "revoke": ["42501", *["42501 42501"] * 3],
        "grant": ["stored", *good[:4]],
        "flush": ["stored", *good],
        # An erasure takes the tokens, too.
        "shred": ["55000", *["none 55000"] * 5],
    }
