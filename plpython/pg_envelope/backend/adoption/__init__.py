"""Takes over columns that other software encrypted: docs/adopt.md."""
