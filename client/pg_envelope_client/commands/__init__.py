"""Holds the commands, one module per group. Each imports what is slow to load only when it runs."""
