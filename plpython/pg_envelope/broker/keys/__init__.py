"""The DEKs in memory, and the epoch that takes them back."""
