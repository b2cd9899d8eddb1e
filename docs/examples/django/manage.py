"""A shop with Django over a protected table. Run `python manage.py migrate`, and then `python manage.py test`.

The database comes from the environment: PGHOST, PGPORT, PGUSER, PGDATABASE. Its role is a superuser, because only a
superuser may protect a table. Run the site itself as another role.
"""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
