"""Models of plain tables, and models of the same tables that know which columns are encrypted."""

from __future__ import annotations

from typing import Any

from django.db import models

from pg_envelope_client.django.fields import encrypted


class Tag(models.Model):
    name = models.CharField(max_length=20, unique=True)


class Customer(models.Model):
    login = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=40, default="nobody")
    email = models.EmailField(unique=True, null=True)
    born = models.DateField(null=True)
    score = models.FloatField(null=True)
    balance = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    notes = models.JSONField(null=True)
    seen = models.DateTimeField(null=True)
    waits = models.DurationField(null=True)
    reference = models.UUIDField(null=True)
    photo = models.BinaryField(null=True)
    visits = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag)

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(visits__gte=0), name="visits_count"),)


class Item(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    label = models.TextField()


class Thing(models.Model):
    """A column of each type that can be searched."""

    char = models.CharField(max_length=5, null=True)
    text = models.TextField(null=True)
    small = models.SmallIntegerField(null=True)
    whole = models.IntegerField(null=True)
    big = models.BigIntegerField(null=True)
    exactly = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    float = models.FloatField(null=True)
    flag = models.BooleanField(null=True)
    date = models.DateField(null=True)
    time = models.TimeField(null=True)
    instant = models.DateTimeField(null=True)
    uuid = models.UUIDField(null=True)
    address = models.GenericIPAddressField(null=True)
    bytes = models.BinaryField(null=True)


def sealed(plain: type[models.Model], name: str, columns: list[str], search: bool = True) -> Any:
    """Returns a model of the same table, with encrypted fields."""
    fields = {field.name: field.clone() for field in plain._meta.local_fields}
    made = {one: encrypted(field, search) if one in columns else field for one, field in fields.items()}
    meta = type("Meta", (), {"managed": False, "db_table": plain._meta.db_table})
    return type(name, (models.Model,), {**made, "Meta": meta, "__module__": __name__})


SEARCHED = [field.name for field in Thing._meta.local_fields if not field.primary_key]
SealedThing = sealed(Thing, "SealedThing", SEARCHED)
SealedCustomer = sealed(Customer, "SealedCustomer", ["email"])
Unsearched = sealed(Customer, "Unsearched", ["name", "notes", "born"], search=False)
