"""The ledger of erasures: which DEKs are dead for ever."""
