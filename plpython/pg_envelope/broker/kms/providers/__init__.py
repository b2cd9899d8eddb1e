"""Holds the providers: one class for each kind of KMS. Only they know their SDK."""
