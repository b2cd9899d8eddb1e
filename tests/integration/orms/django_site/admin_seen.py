"""The admin's pages of a model with encrypted fields, and fixtures of it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import Max
from django.test import Client
from shop.models import Customer, SealedCustomer

LIST = "/admin/shop/sealedcustomer/"


def seen() -> dict[str, object]:
    User.objects.create_superuser("root", "root@example.org", "secret")
    browser = Client()
    browser.login(username="root", password="secret")
    for name in ("ada", "alan"):
        Customer.objects.create(login=name, email=f"{name}@example.org")
    one = SealedCustomer.objects.get(email="ada@example.org")
    given = {"login": "grace", "name": "Grace", "email": "grace@example.org", "born": "1906-12-09"}
    pages = {
        "list": shown(browser, LIST),
        "search": shown(browser, f"{LIST}?q=ada@example.org"),
        "part": shown(browser, f"{LIST}?q=example.org"),
        "headers": sorted(order for order in ("?o=1", "?o=2") if order in text(browser, LIST)),
        "change": "ada@example.org" in text(browser, f"{LIST}{one.pk}/change/"),
        "added": browser.post(f"{LIST}add/", given).status_code,
        "twice": "already exists" in browser.post(f"{LIST}add/", {**given, "login": "other"}).content.decode(),
        "found": str(SealedCustomer.objects.get(email="grace@example.org").born),
    }
    return {**pages, "fixture": fixture()}


def text(browser: Client, url: str) -> str:
    answer = browser.get(url)
    assert answer.status_code == 200
    return str(answer.content.decode())


def shown(browser: Client, url: str) -> list[str]:
    page = text(browser, url)
    return [name for name in ("ada", "alan") if f">{name}@example.org<" in page]


def fixture() -> object:
    """Goes out by dumpdata, and in again by loaddata. The next row has a number of its own."""
    before = sorted(Customer.objects.values_list("login", "email"))
    with TemporaryDirectory() as folder:
        file = str(Path(folder) / "fixture.json")
        call_command("dumpdata", "shop.Customer", plaintext=True, output=file, verbosity=0)
        call_command("flush", interactive=False, reset_sequences=True, verbosity=0)
        call_command("loaddata", file, verbosity=0)
    same = sorted(Customer.objects.values_list("login", "email")) == before
    largest = Customer.objects.aggregate(Max("pk"))["pk__max"]
    return [same, Customer.objects.create(login="next").pk - largest]
