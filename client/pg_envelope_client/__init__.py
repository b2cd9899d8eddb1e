"""The thin client of pg_envelope and the pg-envelope command."""
