"""Lookups of encrypted fields: what they find by tokens, and what scans of the same columns find."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.core.exceptions import FieldError
from django.db import connection, models
from django.db.models import F, Q
from django.db.models.functions import Concat, Lower, RowNumber
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st
from shop.models import SEARCHED, Customer, SealedCustomer, SealedThing, Thing, Unsearched

NOW = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
VALUES: dict[str, list[Any]] = {
    "char": ["a", "é'\"%s", "12345"],
    "text": ["long" * 99, "b'\\", ""],
    "small": [-1, 0, 32767],
    "whole": [0, 5, -(2**31)],
    "big": [2**40, -5, 1],
    "exactly": [Decimal("1.50"), Decimal("-7"), Decimal("999999.99")],
    "float": [1.5, -0.25, 1e300],
    "flag": [True, False, True],
    "date": [dt.date(2024, 2, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "time": [dt.time(1, 2, 3, 4), dt.time(0), dt.time(23, 59, 59)],
    "instant": [NOW, NOW.replace(microsecond=9), NOW.replace(year=1815)],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=7), uuid.UUID(int=2**128 - 1)],
    "address": ["10.0.0.1", "::1", "192.168.1.9"],
    "bytes": [b"", b"\x00\xff", b"x"],
}


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
GENERATED = {
    "text": TEXTS,
    "big": st.integers(-(2**63), 2**63 - 1),
    "exactly": st.decimals(-999999, 999999, places=2),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "date": st.dates(),
    "time": st.times(),
    "instant": st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=st.just(dt.UTC)),
    "uuid": st.uuids(),
    "bytes": st.binary(),
}


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.fixed_dictionaries(GENERATED), min_size=1, max_size=4), st.fixed_dictionaries(GENERATED))
def search_generated(rows: list[dict[str, Any]], other: dict[str, Any]) -> None:
    Thing.objects.all().delete()
    Thing.objects.bulk_create([Thing(**row) for row in rows])
    for name in GENERATED:
        values = [row[name] for row in rows]
        for lookup in ({name: values[-1]}, {f"{name}__in": [*values[1:], other[name]]}):
            assert ids(SealedThing.objects.filter(**lookup)) == ids(Thing.objects.filter(**lookup)), lookup


def seen() -> object:
    search_generated()
    Thing.objects.all().delete()
    for row in range(3):
        Thing.objects.create(**{name: values[row] for name, values in VALUES.items()})
    Thing.objects.create()
    for name in ("Ada", "Alan"):
        Customer.objects.create(login=name.lower(), name=name, email=f"{name.lower()}@example.org")
    wrong = {name: by_field(name) for name in SEARCHED}
    return {
        "differences": {name: found for name, found in wrong.items() if found},
        # Django itself sends other integers here.
        "too_large": [SealedThing.objects.filter(whole__in=some).count() for some in ([2**32, 2**70], [2**32, 5])],
        "without_index": [name for name in SEARCHED if not all(served(name))],
        "refused": [message(query) for query in REFUSED],
        "taken": [[str(value) for value in query()] for query in TAKEN],
        "columns": columns(),
    }


def by_field(name: str) -> list[object]:
    """Returns each lookup that finds other rows than a scan, or finds them in another way than by the token."""
    some = VALUES[name]
    lookups: list[dict[str, Any]] = [{name: value} for value in some]
    lookups += [{f"{name}__in": found} for found in (some, some[:1], [some[0], None], [])]
    if type(some[0]) is int:
        lookups += [{name: 2**70}, {name: 2**16 if name == "small" else 2**32}]
    lookups += [{name: None}, {f"{name}__isnull": True}, {f"{name}__isnull": False}]
    wrong: list[object] = []
    for lookup in lookups:
        for how in ("filter", "exclude"):
            with CaptureQueriesContext(connection) as captured:
                ours = ids(getattr(SealedThing.objects, how)(**lookup))
            by_value = [
                query["sql"] for query in captured if f'"{name}" =' in query["sql"] or f'"{name}" IN' in query["sql"]
            ]
            if ours != ids(getattr(Thing.objects, how)(**lookup)) or by_value:
                wrong.append([how, lookup, ours, by_value])
    return wrong


def served(name: str) -> Iterator[bool]:
    """Tells of the lookups whether an index of tokens serves them."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
    for lookup in ({name: VALUES[name][0]}, {f"{name}__in": VALUES[name]}, {name: None}):
        yield f"shop_thing_{name}_search_idx" in SealedThing.objects.filter(**lookup).explain()


def ids(found: Any) -> list[int]:
    return sorted(found.values_list("pk", flat=True))


def message(query: Any) -> str:
    try:
        return f"not refused: {list(query())}"
    except FieldError as error:
        return str(error)


ADA = "ada@example.org"
people, bare = SealedCustomer.objects, Unsearched.objects
REFUSED = [
    lambda: people.filter(email__contains="a"),
    lambda: people.filter(email__iexact=ADA),
    lambda: people.filter(email__gt="a"),
    lambda: people.filter(email__regex="a"),
    lambda: people.exclude(email__startswith="a"),
    lambda: people.filter(email__foo="a"),
    lambda: people.filter(email__exact__exact="a"),
    lambda: people.values("name").annotate(most=models.Max("email")).filter(most="a"),
    lambda: people.latest("email"),
    lambda: people.annotate(row=models.Window(RowNumber(), order_by="email")),
    lambda: people.annotate(row=models.Window(RowNumber(), order_by=F("email").desc())),
    lambda: people.aggregate(all=ArrayAgg("login", order_by="-email")),
    lambda: people.annotate(lower=Lower("email")).filter(lower="a"),
    lambda: people.order_by("email"),
    lambda: people.order_by("-email"),
    lambda: people.order_by(F("email").desc(nulls_last=True)),
    lambda: people.order_by(Lower("email")),
    lambda: people.all()[:1].aggregate(all=ArrayAgg("login", order_by="email")),
    lambda: people.order_by("login").union(people.all()).order_by("email"),
    lambda: people.filter(pk__in=people.order_by("email").values("pk")[:1]),
    lambda: bare.filter(name="Ada"),
    lambda: bare.filter(name__in=["Ada"]),
    lambda: bare.filter(notes__n=1),
    lambda: bare.filter(born__year=1815),
]
TAKEN = [
    lambda: people.filter(email=ADA).values_list("login", flat=True),
    lambda: people.filter(Q(email=ADA) | Q(login="alan")).order_by("login").values_list("login", flat=True),
    lambda: people.filter(email__in=people.filter(login="ada").values("email")).values_list("login", flat=True),
    lambda: people.filter(email__in=[F("email")]).order_by("login").values_list("login", flat=True),
    lambda: people.filter(~Q(email=ADA)).values_list("login", flat=True),
    lambda: people.annotate(same=models.Exists(people.filter(email=models.OuterRef("email")))).values_list(
        "same", flat=True
    ),
    lambda: people.values("email").annotate(n=models.Count("pk")).filter(email=ADA).values_list("n", flat=True),
    lambda: people.filter(email=Concat(F("login"), models.Value("@example.org"))).values_list("login", flat=True),
    lambda: people.filter(email__in=[ADA, F("login")]).values_list("login", flat=True),
    lambda: people.filter(email__in=[str(number) for number in range(9999)] + [ADA]).values_list("login", flat=True),
    lambda: bare.filter(name__isnull=True),
    lambda: [people.get(email=ADA).email, people.filter(email="nobody@example.org").update(name="none")],
]


def columns() -> object:
    """What migrations see of an encrypted field."""
    field = SealedCustomer._meta.get_field("email")
    return [field.deconstruct()[1], type(field.clone()).__name__, isinstance(field, models.EmailField)]
