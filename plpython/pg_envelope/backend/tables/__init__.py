"""Protected tables: what a table is (inspect), what cannot be carried over (refusals), what is generated, the steps."""
