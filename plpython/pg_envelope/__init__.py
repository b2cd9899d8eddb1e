"""pg_envelope: column-level envelope encryption inside PostgreSQL."""
