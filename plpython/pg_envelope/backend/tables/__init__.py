"""Makes protected tables: it inspects a table, refuses what cannot be kept, and generates SQL."""
