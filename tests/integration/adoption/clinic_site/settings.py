"""A site whose application encrypts a column by itself, or not any more: CLINIC_ENCRYPTS says which."""

import os

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["SITE_DATABASE"],
        "USER": os.environ["SITE_USER"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
    }
}
INSTALLED_APPS = ["clinic"]
ROOT_URLCONF = "clinic.urls"
SECRET_KEY = "of the tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CLINIC_ENCRYPTS = os.environ["CLINIC_ENCRYPTS"] == "yes"
CLINIC_KEY = os.environ["CLINIC_KEY"]
