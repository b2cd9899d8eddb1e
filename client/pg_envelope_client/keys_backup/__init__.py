"""Handles the break-glass key and the backup of a database's DEKs: FORMAT.md section 6."""
