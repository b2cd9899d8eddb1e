"""ENGINE = "pg_envelope_client.django.backend": Django's own backend of PostgreSQL, which knows protected tables."""
