"""A visitor of the site: `python browse.py read` prints what all pages answer, `write NAME NUMBER` sends the form.

Several visits have `then` between them: Django takes most of a process's time to start.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import warnings

import django

warnings.simplefilter("error")
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from clinic.models import Patient, Visit  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402

PAGES = ("/patients/", "/patients/ada/", "/patients/nobody/", "/visits/")


def begin() -> None:
    """Makes the tables, and the patients of the first day."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    for name, number in {"ada": "078-05-1120", "alan": "Zoë 🐎", "grace": "", "kurt": None}.items():
        patient = Patient.objects.create(name=name, number=number)
        Visit.objects.create(patient=patient, reason=f"of {name}")
    Patient.objects.bulk_create([Patient(name=f"p{number}", number=f"no {number}") for number in range(40)])


def read() -> None:
    """Prints pages, and queries that no page has."""
    answers = {page: Client().get(page) for page in PAGES}
    pages = {
        page: answer.json() if answer.status_code == 200 else answer.status_code for page, answer in answers.items()
    }
    queries = [
        Patient.objects.filter(number__isnull=True).count(),
        list(Patient.objects.filter(visit__reason="of ada").values_list("number", flat=True)),
        sorted(row.number or "" for row in Patient.objects.defer("name").iterator()),
        sorted(row.pk for row in Patient.objects.exclude(number=None)),
        Patient.objects.in_bulk(["alan"], field_name="name")["alan"].number,
    ]
    print(json.dumps([pages, queries]))


def write(name: str, number: str) -> None:
    assert Client().post("/save/", {"name": name, "number": number}).status_code == 204


def rename(name: str, new: str) -> None:
    """Saves a whole object, with the value that was read."""
    patient = Patient.objects.get(name=name)
    patient.name = new
    patient.save()


if __name__ == "__main__":
    for _, words in itertools.groupby(sys.argv[1:], "then".__eq__):
        act, *values = words
        if act != "then":
            globals()[act](*values)
