"""Finds columns that look personal, by samples of their values. No value leaves this package."""
