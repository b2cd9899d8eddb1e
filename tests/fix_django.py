"""Django's settings. One process has them once, whichever test comes first."""

from __future__ import annotations

import django
from django.conf import settings

ENGINE = "pg_envelope_client.django.backend"


def configure() -> None:
    """Names no server yet: a test that needs one says so to its connection."""
    if not settings.configured:
        settings.configure(DATABASES={"default": {"ENGINE": ENGINE, "NAME": "none"}}, INSTALLED_APPS=[])
        django.setup()
