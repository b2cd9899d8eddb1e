"""Runs re-encryption and verification as jobs, which walk shares of a table in committed batches."""
