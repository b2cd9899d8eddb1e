"""Keeps the DEKs in memory, and the epoch that revokes them."""
