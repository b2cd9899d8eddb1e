"""A patient, whose number the application encrypts itself, or leaves to the database."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.db import models


class FernetField(models.TextField):
    """Stores Fernet's tokens. A value in the database that is none is an error, as in every such field."""

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None else Fernet(settings.CLINIC_KEY).encrypt(value.encode()).decode()

    def from_db_value(self, value: Any, *_: object) -> Any:
        return value if value is None else Fernet(settings.CLINIC_KEY).decrypt(value.encode()).decode()


class Patient(models.Model):
    name = models.CharField(max_length=40, unique=True)
    number = FernetField(null=True) if settings.CLINIC_ENCRYPTS else models.TextField(null=True)


class Visit(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    reason = models.TextField()
