"""Reads and writes values that other software encrypted: docs/adopt.md lists the layouts."""
