"""Prints as JSON what parts of this site see, from empty tables on: `python observe.py catalog operations`."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings

import django

warnings.simplefilter("error")
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402


def operations() -> object:
    import operations_seen

    return [operation() for operation in operations_seen.ALL]


def is_email_like(name: str) -> bool:
    return "email" in name and name.endswith("_like")


def catalog() -> object:
    """What inspectdb and the schema editor read of the tables."""
    text, tables = io.StringIO(), [name for name in connection.introspection.table_names() if name.startswith("shop_")]
    call_command("inspectdb", stdout=text)
    read, facts = connection.introspection, {}
    with connection.cursor() as cursor:
        for name in tables:
            facts[name] = [
                [tuple(info[:1]) + tuple(info[2:]) for info in read.get_table_description(cursor, name)],
                read.get_relations(cursor, name),
                read.get_sequences(cursor, name),
                read.get_primary_key_columns(cursor, name),
                # The index for LIKE, which tokens cannot stand in for.
                sorted(item for item in read.get_constraints(cursor, name).items() if not is_email_like(item[0])),
            ]
    return {"models": text.getvalue().splitlines(), "tables": tables, "facts": facts}


def migrations() -> object:
    import migrations_seen

    return migrations_seen.seen()


def admin() -> object:
    import admin_seen

    return admin_seen.seen()


def options() -> object:
    import options_seen

    return options_seen.seen()


def dumps() -> object:
    import dumps_seen

    return dumps_seen.seen()


def large() -> object:
    """More objects than a statement has parameters."""
    from shop.models import Tag

    count = 2**16 + 1
    Tag.objects.bulk_create([Tag(name=str(number)) for number in range(count)])
    read = Tag.objects.in_bulk(list(Tag.objects.values_list("pk", flat=True)))
    return [len(read) == count, Tag.objects.all().delete()[0] == count]


def tokens() -> object:
    import tokens_seen

    return tokens_seen.seen()


if __name__ == "__main__":
    call_command("flush", interactive=False, verbosity=0)
    json.dump([globals()[part]() for part in sys.argv[1:]], sys.stdout, default=str)
