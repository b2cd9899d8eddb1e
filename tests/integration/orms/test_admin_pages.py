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


@pytest.fixture
def site(db: Database) -> Database:
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
    return db


@pytest.fixture
def page(browser: Browser, site: Database, tmp_path: Path) -> Iterator[Browser]:
    """The list, after somebody has logged in. The browser met no error of a server or of a script."""
    log = Path(site.stack.cluster.log)
    begin = log.stat().st_size
    with served(site, tmp_path / "site.log") as url:
        browser.go(url)
        assert "/admin/login/" in browser.url
        browser.type("#id_username", "root")
        browser.type("#id_password", PASSWORD)
        browser.click("input[type=submit]")
        assert browser.url == url
        yield browser
    assert browser.failed == []
    written = log.read_bytes()[begin:].decode()
    assert not [line for line in written.splitlines() for value in (PASSWORD, *EMAILS) if value in line]
    # A search is a part of the address, which every web server writes down: docs/orms.md.
    requests = (tmp_path / "site.log").read_text()
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
