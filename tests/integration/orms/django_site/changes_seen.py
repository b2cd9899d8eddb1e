"""Prints as JSON what one connection of Django sees while keys and rights change: `python changes_seen.py`."""

from __future__ import annotations

import json
import os
import sys

import django
import psycopg

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from django.db import Error, connection  # noqa: E402
from shop.models import SealedCustomer  # noqa: E402

# What the superuser does, after which a customer is stored and both are looked up by the values of their fields.
CHANGES = {
    "nothing": "SELECT",
    "rotate": "SELECT envelope.rotate('shop_customer')",
    "suspend": "CALL envelope.suspend('shop_customer')",
    "unsuspend": "CALL envelope.unsuspend('shop_customer')",
    "revoke": "REVOKE ALL ON shop_customer FROM alice",
    "grant": "GRANT ALL ON shop_customer TO alice",
    "flush": "SELECT envelope.flush('test')",
    "shred": "CALL envelope.shred('shop_customer', NULL, 'test')",
}


def email_of(number: int) -> str:
    return f"{number}@example.org"


def stored(number: int) -> str:
    try:
        SealedCustomer.objects.create(login=str(number), email=email_of(number))
    except Error as error:
        return str(getattr(error.__cause__, "sqlstate", error))
    return "stored"


def found(**sought: str) -> str:
    try:
        return str(SealedCustomer.objects.get(**sought).email)
    except SealedCustomer.DoesNotExist:
        return "none"
    except Error as error:
        return str(getattr(error.__cause__, "sqlstate", error))


def seen() -> dict[str, list[str]]:
    made, told = [], {}
    with psycopg.connect(dbname=os.environ["SITE_DATABASE"], user="postgres", autocommit=True) as admin:
        for number, (name, change) in enumerate(CHANGES.items()):
            admin.execute(change)
            told[name] = [stored(number)]
            made += [number] if told[name] == ["stored"] else []
            told[name] += [f"{found(email=email_of(one))} {found(login=str(one))}" for one in made]
    return told


if __name__ == "__main__":
    pid = connection.cursor().connection.info.backend_pid
    json.dump([seen(), pid == connection.cursor().connection.info.backend_pid], sys.stdout)
