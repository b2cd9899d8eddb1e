"""The admin's pages of a model with encrypted fields, in a browser: Debian's chromium."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.processes import free_port
from tests.fix_stack import Database
from tests.integration.fix_browser import Browser
from tests.integration.orms import fix_site

PASSWORD = "of the admin 7Hq"
EMAILS = ("ada@example.org", "alan@example.org", "grace@example.org", "hopper@example.org")
COLUMNS = """SELECT quote_ident(attname) FROM pg_attribute
WHERE attrelid = 'shop_customer'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT LIKE '%_search'"""


@contextmanager
def served(db: Database, log: Path) -> Iterator[str]:
    """Yields the address of the list; the server is Django's own, and also serves the static files."""
    port = free_port()
    line = [sys.executable, "-m", "django", "runserver", "--noreload", "--insecure", f"127.0.0.1:{port}"]
    environment = {**fix_site.environment(db, "owner"), "DJANGO_SETTINGS_MODULE": "browsed"}
    with log.open("wb") as written:
        process = subprocess.Popen(line, cwd=fix_site.ROOT, env=environment, stdout=written, stderr=written)
    try:
        _wait_until_up(f"http://127.0.0.1:{port}/admin/login/", process, log)
        yield f"http://127.0.0.1:{port}/admin/shop/sealedcustomer/"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the site did not come up: {log.read_text()}")


class Site:
    """The list's address, the site's log, and its database, whose customers are the same for each test."""

    def __init__(self, url: str, log: Path, db: Database) -> None:
        self.url, self.log, self.db = url, log, db
        columns = db.sql(COLUMNS)
        self._names = ", ".join(name for (name,) in columns)
        self._places = ", ".join(["%s"] * len(columns))
        self._customers = db.sql(f"SELECT {self._names} FROM shop_customer ORDER BY id")

    def reset(self) -> None:
        self.db.sql("DELETE FROM shop_customer")
        for row in self._customers:
            self.db.sql(f"INSERT INTO shop_customer ({self._names}) VALUES ({self._places})", *row)


@pytest.fixture(scope="module")
def made_site(shared_db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    db, log = shared_db, tmp_path_factory.mktemp("site") / "site.log"
    fix_site.manage(db, "migrate", "--run-syncdb", "--verbosity", "0")
    fix_site.protect(db)
    code = f"""
from django.contrib.auth.models import User
from shop.models import Customer
User.objects.create_superuser("root", "root@example.org", {PASSWORD!r})
for name in ("ada", "alan"):
    Customer.objects.create(login=name, email=name + "@example.org")
"""
    done = fix_site.run(db, "-m", "django", "shell", "-c", code)
    assert done.returncode == 0, done.stderr
    with served(db, log) as url:
        yield Site(url, log, db)


@pytest.fixture
def site(made_site: Site) -> Database:
    made_site.reset()
    return made_site.db


@pytest.fixture
def page(browser: Browser, made_site: Site, site: Database) -> Iterator[Browser]:
    """The list, after somebody has logged in. The browser met no error of a server or of a script."""
    logs = (Path(site.stack.cluster.log), made_site.log)
    begins = [log.stat().st_size for log in logs]
    browser.go(made_site.url)
    assert "/admin/login/" in browser.url
    browser.type("#id_username", "root")
    browser.type("#id_password", PASSWORD)
    browser.click("input[type=submit]")
    assert browser.url == made_site.url
    yield browser
    assert browser.failed == []
    written, requests = (log.read_bytes()[begin:].decode() for log, begin in zip(logs, begins, strict=True))
    assert not [line for line in written.splitlines() for value in (PASSWORD, *EMAILS) if value in line]
    # A search is a part of the address, which every web server writes down: docs/orms.md.
    assert "Traceback" not in requests
    assert PASSWORD not in requests


def listed(page: Browser) -> list[str]:
    return sorted(page.texts("#result_list td.field-email"))


def told(page: Browser) -> str:
    return " ".join(page.texts("ul.messagelist li"))


def test_list_and_search_by_token(page: Browser) -> None:
    place = page.url
    assert listed(page) == ["ada@example.org", "alan@example.org"]
    assert page.style("#header", "backgroundColor") not in ("rgba(0, 0, 0, 0)", ""), "the style sheet is there"
    assert (page.texts("th.column-login a"), page.texts("th.column-email a")) != ([], [])
    assert page.texts("th.column-email a") == [], "nobody can order by it"
    page.type("#searchbar", "alan@example.org")
    page.click("#changelist-search input[type=submit]")
    assert listed(page) == ["alan@example.org"]
    page.go(f"{place}?q=example.org")
    assert listed(page) == [], "a part of a value finds nothing"


def test_add_change_and_delete(page: Browser, site: Database) -> None:
    place = page.url
    page.click(".object-tools a.addlink")
    for name, value in {"login": "grace", "name": "Grace", "email": "ada@example.org", "born": "1906-12-09"}.items():
        page.type(f"#id_{name}", value)
    page.click("input[name=_save]")
    assert "already exists" in " ".join(page.texts(".field-email .errorlist li"))
    page.type("#id_email", "grace@example.org")
    page.click("input[name=_save]")
    assert "added successfully" in told(page)
    assert listed(page) == sorted(EMAILS[:3])
    page.go(f"{place}?q=grace@example.org")
    page.click("#result_list th.field-login a")
    assert page.run("document.querySelector('#id_email').value") == "grace@example.org"
    assert page.run("document.querySelector('#id_born').value") == "1906-12-09"
    page.type("#id_email", "hopper@example.org")
    page.click("input[name=_save]")
    assert "changed successfully" in told(page)
    assert site.one("SELECT login FROM shop_customer WHERE email_search = %s", EMAILS[3]) == "grace"
    assert site.one("SELECT count(*) FROM shop_customer_encrypted WHERE strpos(email::text, 'hopper') > 0") == 0
    page.go(f"{place}?q=hopper@example.org")
    page.click("#result_list th.field-login a")
    page.click("a.deletelink")
    page.click("input[type=submit]")
    assert "deleted successfully" in told(page)
    page.go(place)
    assert listed(page) == list(EMAILS[:2])


def test_several_are_deleted_by_the_action_of_the_list(page: Browser, site: Database) -> None:
    page.run("document.querySelectorAll('input.action-select').forEach(box => box.click())")
    page.run("document.querySelector('select[name=action]').value = 'delete_selected'")
    page.click("button[name=index]")
    page.click("form input[type=submit]")
    assert "Successfully deleted 2" in told(page)
    assert site.one("SELECT count(*) FROM shop_customer") == 0


@pytest.mark.parametrize("asked", ["email__contains=ada", "email__gt=a", "o=2", "o=-2.1", "email__length=3"])
def test_what_an_encrypted_field_cannot_do_is_told(page: Browser, asked: str) -> None:
    page.go(f"{page.url}?{asked}")
    assert "Email is encrypted: it has" in told(page)
    assert listed(page) == ["ada@example.org", "alan@example.org"], "the whole list"
    assert "e=1" in page.url


def test_what_is_wrong_by_itself_is_as_in_every_admin(page: Browser) -> None:
    page.go(f"{page.url}?nothing=1")
    assert (told(page), len(listed(page))) == ("", 2)


def test_a_form_without_its_token_is_refused(page: Browser) -> None:
    page.click(".object-tools a.addlink")
    page.run("document.querySelector('#sealedcustomer_form [name=csrfmiddlewaretoken]').remove()")
    page.type("#id_login", "x")
    page.click("input[name=_save]")
    assert "CSRF verification failed" in page.text
    assert [line.partition(" ")[0] for line in page.failed] == ["403"]
    page.failed.clear()
