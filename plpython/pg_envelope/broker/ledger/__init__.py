"""Keeps the ledger of erasures: the DEKs that are dead for ever."""
