"""Holds the broker's configuration, checked and typed."""
