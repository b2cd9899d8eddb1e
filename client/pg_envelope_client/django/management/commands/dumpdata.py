"""`manage.py dumpdata`, which writes values of protected tables only when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.core.management.commands import dumpdata
from django.core.management.utils import parse_apps_and_model_labels
from django.db import connections

from pg_envelope_client import relations


class CarefulDumpdata(dumpdata.Command):
    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument("--plaintext", action="store_true", help="Write values of protected tables in the clear.")

    def handle(self, *app_labels: str, plaintext: bool = False, **options: Any) -> None:
        """Refuses before anything is written."""
        if not plaintext:
            _refuse(connections[options["database"]], set(_dumped(app_labels, options)))
        super().handle(*app_labels, **options)


# The name by which Django finds it.
Command = CarefulDumpdata


def _dumped(app_labels: tuple[str, ...], options: dict[str, Any]) -> Iterator[Any]:
    models, whole = parse_apps_and_model_labels(app_labels)
    excluded, without = parse_apps_and_model_labels(options["exclude"])
    wanted = (whole if app_labels else set(apps.get_app_configs())) - without
    for model in {*models, *(model for found in wanted for model in found.get_models())} - excluded:
        if model._meta.app_config not in without:
            yield model
            # A natural key is made of the values of the other row.
            yield from _related(model) if options["use_natural_foreign_keys"] else ()


def _related(model: Any) -> Iterator[Any]:
    for field in (*model._meta.fields, *model._meta.many_to_many):
        if field.remote_field and hasattr(field.remote_field.model, "natural_key"):
            yield field.remote_field.model


def _refuse(connection: Any, models: set[Any]) -> None:
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        protected = {table.name for table in relations.read(cursor)}
    # Some name a schema in db_table: schema"."table.
    found = sorted(model._meta.label for model in models if model._meta.db_table.strip('"').split('"')[-1] in protected)
    if found:
        raise CommandError(
            f"dumpdata would write values of protected tables in the clear: {', '.join(found)}."
            " Leave these models out with --exclude, or write their values with --plaintext."
            " A dump by pg_dump holds envelopes."
        )
