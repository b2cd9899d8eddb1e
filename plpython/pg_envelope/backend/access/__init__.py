"""Says which roles can read protected columns, and by which paths: docs/access.md."""
