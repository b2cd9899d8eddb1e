"""A private, disposable stack: PostgreSQL with pg_envelope, a real OpenBao, and the broker between them."""
