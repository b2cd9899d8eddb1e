"""The application for INSTALLED_APPS: it brings the command dumpdata, which keeps values out of files."""

from __future__ import annotations

from django.apps import AppConfig


class PgEnvelopeConfig(AppConfig):
    name = "pg_envelope_client.django"
    label = "pg_envelope"
    verbose_name = "pg_envelope"
