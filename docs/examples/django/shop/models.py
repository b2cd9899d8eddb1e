from __future__ import annotations

from django.db import models

from pg_envelope_client.django.fields import encrypted


class Customer(models.Model):
    login = models.CharField(max_length=40, unique=True)
    email = encrypted(models.EmailField(unique=True, null=True))
    born = encrypted(models.DateField(null=True), search=False)


class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    total = models.DecimalField(max_digits=12, decimal_places=2)
