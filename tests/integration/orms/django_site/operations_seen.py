"""What applications do with Django's models. Each function returns what it saw, for a comparison."""

from __future__ import annotations

import datetime as dt
import io
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal

from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Count, F, Max, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Lower
from django.test import Client
from shop.models import Customer, Item, Tag

NOW = dt.datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=dt.UTC)


def customers(count: int) -> list[Customer]:
    return [
        Customer(
            login=f"u{i}",
            name=f"Name {i}",
            email=f"u{i}@example.org",
            born=dt.date(1990, 1, 1 + i),
            score=i / 3,
            balance=Decimal(i) / 4,
            notes={"n": [i, None], "é": "ü"},
            seen=NOW + dt.timedelta(days=i),
            waits=dt.timedelta(days=i, microseconds=7),
            reference=uuid.UUID(int=i),
            photo=bytes([i, 0, 255]),
        )
        for i in range(count)
    ]


def rows() -> list[list[str]]:
    names = [field.attname for field in Customer._meta.concrete_fields if not field.primary_key]
    found = Customer.objects.order_by("login").values_list(*names)
    return [[str(bytes(value)) if isinstance(value, memoryview) else str(value) for value in row] for row in found]


def saved() -> object:
    for one in customers(3):
        one.save()
    Customer.objects.bulk_create(customers(6)[3:])
    Customer.objects.create(login="bare")
    for one in Customer.objects.all():
        Item.objects.bulk_create([Item(customer=one, label=f"item {j}") for j in range(one.login.count("u"))])
    return rows()


def changed() -> object:
    one = Customer.objects.get(login="u1")
    one.email, one.notes, one.photo = None, {"changed": True}, None
    one.save()
    one.refresh_from_db()
    Customer.objects.filter(login="u2").update(visits=F("visits") + 1, name=Lower("name"))
    some = list(Customer.objects.filter(login__in=["u3", "u4"]))
    for one in some:
        one.email, one.balance, one.born, one.waits = f"new-{one.email}", one.balance + 1, None, dt.timedelta(1)
    Customer.objects.bulk_update(some, ["email", "balance", "born", "waits"])
    with transaction.atomic():
        locked = Customer.objects.select_for_update().get(login="u5")
        locked.name = "locked"
        locked.save(update_fields=["name"])
    return rows()


def made_or_found() -> object:
    kept, new = Customer.objects.get_or_create(email="u0@example.org", defaults={"login": "other"})
    put, made = Customer.objects.update_or_create(login="v", defaults={"email": "v@example.org", "notes": [1]})
    again, _ = Customer.objects.update_or_create(login="v", defaults={"name": "V"})
    return [kept.login, new, made, put.pk == again.pk, rows()]


def upserted() -> object:
    given = [
        Customer(login="u0", email="up@example.org", born=dt.date(2000, 2, 29)),
        Customer(login="w", email="w@x.org"),
    ]
    fields = ["email", "born", "score", "waits", "notes", "balance", "seen", "reference", "photo"]
    Customer.objects.bulk_create(given, update_conflicts=True, unique_fields=["login"], update_fields=fields)
    one = customers(1)[0]
    Customer.objects.bulk_create([one], update_conflicts=True, unique_fields=["login"], update_fields=fields)
    kept = [Customer(login="u0", email="no@example.org"), Customer(login="n", email="n@example.org")]
    Customer.objects.bulk_create(kept, ignore_conflicts=True)
    Customer.objects.bulk_create([Customer(login="m", email="n@example.org")], ignore_conflicts=True)
    return [one.pk == Customer.objects.get(login="u0").pk, rows()]


def found() -> object:
    all_of = Customer.objects
    return [
        all_of.filter(email__contains="example").count(),
        all_of.filter(Q(born__year=1990) | Q(notes__changed=True)).count(),
        all_of.exclude(email="n@example.org").count(),
        all_of.filter(notes__n__0=2).count(),
        [one.login for one in all_of.filter(balance__gt=1).order_by("-email", "login")],
        list(all_of.filter(born__isnull=False).dates("born", "month").values_list("datefield", flat=True)) and None,
        [one.login for one in all_of.only("login").order_by("name", "login")],
        [one.login for one in all_of.filter(email="u2@example.org").union(all_of.filter(login="v")).order_by("login")],
        all_of.in_bulk(["v"], field_name="login")["v"].email,
        sorted(one.email or "" for one in all_of.filter(item__label="item 0").distinct()),
    ]


def grouped() -> object:
    counted = Customer.objects.annotate(count=Count("item")).order_by("login")
    named = Item.objects.values("customer__name").annotate(count=Count("pk")).order_by("customer__name")
    many = Customer.objects.annotate(items=Count("item"), tags_=Count("tags")).filter(items__gte=1).order_by("login")
    last = Item.objects.filter(customer=OuterRef("pk")).order_by("-pk").values("label")[:1]
    with_last = Customer.objects.annotate(
        last=Coalesce(Subquery(last), models.Value("none", output_field=models.TextField()))
    ).order_by("login")
    return [
        [(one.login, one.email, one.count) for one in counted],
        list(named),
        [(one.login, one.name, one.items) for one in many.select_related()],
        [(one.login, one.last) for one in with_last],
        [str(value) for value in Customer.objects.aggregate(Sum("balance"), Max("seen"), Max("born")).values()],
        [one.customer.email for one in Item.objects.select_related("customer").order_by("customer__login")],
    ]


def related() -> object:
    one, other = Customer.objects.get(login="u2"), Customer.objects.get(login="v")
    tags = [Tag.objects.create(name=name) for name in ("a", "b")]
    one.tags.add(*tags)
    one.tags.add(tags[0])
    other.tags.set(tags[:1])
    one.tags.remove(tags[1])
    fetched = Customer.objects.prefetch_related("tags").filter(tags__isnull=False).order_by("login")
    return [[one.email, [tag.name for tag in one.tags.all()]] for one in fetched]


def refused() -> Iterator[object]:
    for wrong in (
        {"login": "u0"},
        {"login": "x", "email": "v@example.org"},
        {"login": "x", "name": None},
        {"login": "x", "name": "n" * 41},
        {"login": "x", "visits": -1},
    ):
        try:
            with transaction.atomic():
                Customer.objects.create(**wrong)
        except Exception as error:
            yield type(error).__name__, getattr(error.__cause__, "sqlstate", None)
    twice = Customer(login="x", email="v@example.org")
    try:
        twice.full_clean(exclude=["name", "notes", "score", "born", "balance", "seen", "waits", "reference", "photo"])
    except Exception as error:
        yield str(error)
    try:
        with transaction.atomic():
            Item.objects.create(customer_id=10**9, label="nobody's")
            connection.check_constraints()
    except IntegrityError as error:
        yield type(error).__name__


def deleted() -> object:
    gone = Customer.objects.get(login="u3").delete()
    some = Customer.objects.filter(login__in=["u4", "u5"]).delete()
    return [sorted(gone[1].items()), sorted(some[1].items()), Item.objects.count(), rows()]


def loaded() -> object:
    """A fixture goes out and in again, and the sequence goes on behind it."""
    text = serializers.serialize("json", [*Customer.objects.order_by("pk"), *Item.objects.order_by("pk")])
    before = rows()
    Item.objects.all().delete()
    Customer.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.setval('shop_customer_id_seq', 1, false)")
    for one in serializers.deserialize("json", text):
        one.save()
    for statement in connection.ops.sequence_reset_sql(call_command_style(), [Customer, Item]):
        with connection.cursor() as cursor:
            cursor.execute(statement)
    next_one = Customer.objects.create(login="next")
    largest = Customer.objects.exclude(login="next").aggregate(Max("pk"))["pk__max"]
    seen = [[row for row in rows() if row[0] != "next"] == before, next_one.pk - largest]
    next_one.delete()
    return seen


def call_command_style() -> object:
    from django.core.management.color import no_style

    return no_style()


def administered() -> object:
    User.objects.create_superuser("root", "root@example.org", "secret")
    browser = Client()
    browser.login(username="root", password="secret")
    answers = [browser.get("/admin/shop/item/").status_code]
    one = Item.objects.order_by("customer__login").first()
    page = f"/admin/shop/item/{one.pk}/change/"
    answers += [browser.get(page).status_code]
    answers += [browser.post(page, {"customer": one.customer_id, "label": "from the admin"}).status_code]
    one.refresh_from_db()
    return [*answers, one.label]


def flushed() -> object:
    output = io.StringIO()
    call_command("flush", interactive=False, reset_sequences=True, stdout=output)
    count, first = Customer.objects.count(), Customer.objects.create(login="first")
    number = first.pk
    first.delete()
    return [count, number, User.objects.count()]


ALL: list[Callable[[], object]] = [
    saved,
    changed,
    made_or_found,
    upserted,
    found,
    grouped,
    related,
    lambda: list(refused()),
    deleted,
    loaded,
    administered,
    flushed,
]
