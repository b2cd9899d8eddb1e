"""Sealed backups of a database: files that open without the key catalog that is in them."""
