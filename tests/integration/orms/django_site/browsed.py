"""The site as a browser meets it: CSRF, style sheets and scripts as in production."""

from settings import *  # noqa: F403
from settings import INSTALLED_APPS as PLAIN_APPS
from settings import MIDDLEWARE as PLAIN_MIDDLEWARE

DEBUG = False
INSTALLED_APPS = [*PLAIN_APPS, "django.contrib.staticfiles"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    *PLAIN_MIDDLEWARE,
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
STATIC_URL = "static/"
