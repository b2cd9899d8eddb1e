"""Django over protected tables: models, catalog and commands see what they see over plain ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fix_stack import Database
from tests.integration.orms import fix_site


@pytest.fixture
def site(db: Database) -> Database:
    fix_site.manage(db, "migrate", "--run-syncdb", "--verbosity", "0")
    return db


def test_the_operations_see_no_difference(site: Database) -> None:
    plain = fix_site.seen(site, "operations")
    fix_site.protect(site)
    sealed = fix_site.seen(site, "operations")
    # One by one, for a message that can be read.
    for before, after in zip(plain, sealed, strict=True):
        assert after == before


def test_the_catalog_is_that_of_the_plain_tables(site: Database) -> None:
    plain = fix_site.seen(site, "catalog")
    fix_site.protect(site)
    sealed = fix_site.seen(site, "catalog")
    indexes = sealed["facts"]["shop_thing"].pop()
    assert plain["facts"]["shop_thing"].pop() == [fact for fact in indexes if not fact[0].endswith("_search_idx")]
    assert [fact["columns"] for _, fact in indexes if fact["index"]] == [[name] for name in sorted(fix_site.SEARCHED)]
    assert sealed == plain


def test_encrypted_fields_find_by_tokens(site: Database) -> None:
    fix_site.protect(site)
    site.sql("INSERT INTO shop_customer (login, name, email, visits) VALUES ('ada', 'Ada', 'ada@example.org', 0)")
    site.sql("INSERT INTO shop_customer (login, name, email, visits) VALUES ('alan', 'Alan', 'alan@example.org', 0)")
    found = fix_site.seen(site, "tokens")
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
    fix_site.protect(site)
    assert fix_site.seen(site, "admin") == {
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


def test_operations_of_migrations_and_their_way_back(site: Database) -> None:
    seen = fix_site.seen(site, "migrations", "postgres")
    loose = ["shop_thing_upsert", ["text_loose", "text_search"]]
    forwards = [None, [loose[0], []], [loose[0], ["text_search"]], loose, loose, loose, None, [None, []]]
    assert [facts for _, facts in seen["protected"]] == [*forwards, *reversed(forwards[:-1])]
    assert {json.dumps(rows) for rows, _ in seen["protected"]} == {'[["A text", 7]]'}
    assert seen["as_written"]
    assert [error.partition(":")[0] for error in seen["refused"]] == ["NotSupportedError"] * 2 + ["FieldDoesNotExist"]
    assert all("atomic = False" in error for error in seen["refused"][:2])


def test_dumpdata_refuses_values_in_the_clear(site: Database, tmp_path: Path) -> None:
    fix_site.protect(site)
    site.sql("INSERT INTO shop_tag (name) VALUES ('a')")
    site.sql("INSERT INTO shop_customer (login, name, visits) VALUES ('x', 'Ada', 0)")
    output = tmp_path / "data.json"
    output.write_text("before")
    for given in ([], ["shop"], ["shop.Customer"], ["shop", "--exclude", "shop.Item"]):
        done = fix_site.run(site, "-m", "django", "dumpdata", *given, "--output", str(output))
        assert (done.returncode, output.read_text()) == (1, "before")
        assert "shop.Customer" in done.stderr
        assert "--plaintext" in done.stderr
    tags = json.loads(fix_site.manage(site, "dumpdata", "shop.Tag"))
    assert [row["fields"] for row in tags] == [{"name": "a"}]
    (row,) = json.loads(fix_site.manage(site, "dumpdata", "shop.Customer", "--plaintext"))
    assert row["fields"]["name"] == "Ada"


def test_a_statement_that_fails_leaves_no_value_in_the_log(site: Database) -> None:
    fix_site.protect(site)
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
