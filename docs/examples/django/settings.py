from __future__ import annotations

import os

DATABASES = {
    "default": {
        "ENGINE": "pg_envelope_client.django.backend",
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
    }
}
INSTALLED_APPS = ["pg_envelope_client.django", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = os.environ.get("SECRET_KEY", "for tests only")
USE_TZ = True
