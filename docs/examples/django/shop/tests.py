from __future__ import annotations

import datetime as dt

from django.core.exceptions import FieldError
from django.db import connection
from django.db.models import Count
from django.test import TestCase, TransactionTestCase

from shop.models import Customer, Order


def ada() -> Customer:
    return Customer.objects.create(login="ada", email="ada@example.org", born=dt.date(1815, 12, 10))


class CustomerTest(TestCase):
    def test_values_are_found_by_their_tokens(self) -> None:
        Order.objects.create(customer=ada(), total=10)
        assert Customer.objects.get(email="ada@example.org").born == dt.date(1815, 12, 10)
        assert [one.orders for one in Customer.objects.annotate(orders=Count("order"))] == [1]

    def test_what_would_decrypt_every_row_is_refused(self) -> None:
        for query in ({"email__contains": "ada"}, {"born__year": 1815}):
            with self.assertRaises(FieldError):
                Customer.objects.filter(**query)

    def test_the_disk_holds_envelopes(self) -> None:
        ada()
        with connection.cursor() as cursor:
            cursor.execute("SELECT email::text FROM shop_customer_encrypted")
            assert cursor.fetchone()[0].startswith("\\xe1")


class UpsertTest(TransactionTestCase):
    reset_sequences = True

    def test_an_upsert(self) -> None:
        first = ada()
        again = Customer(login="ada", email="countess@example.org")
        Customer.objects.bulk_create([again], update_conflicts=True, unique_fields=["login"], update_fields=["email"])
        assert (first.pk, Customer.objects.get().email) == (1, "countess@example.org")

    def test_the_tables_are_empty_and_numbers_start_again(self) -> None:
        assert ada().pk == 1
