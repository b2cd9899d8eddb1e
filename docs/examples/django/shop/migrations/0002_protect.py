"""From here on the disk holds envelopes. The test database of `manage.py test` gets the extension here, too.

Django has given `email` a second index, for LIKE, which tokens cannot stand in for.
"""

from django.db import migrations

from pg_envelope_client.django.operations import Protect


class Migration(migrations.Migration):
    dependencies = (("shop", "0001_initial"),)
    operations = (
        migrations.RunSQL("CREATE EXTENSION IF NOT EXISTS pg_envelope CASCADE", migrations.RunSQL.noop),
        Protect("Customer", {"email": {"index": "drop"}, "born": {}}, upsert=True),
    )
