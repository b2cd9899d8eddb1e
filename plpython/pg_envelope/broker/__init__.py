"""The key broker: the one process beside the server that talks to the KMS and hands field keys to backends.

The files here are the process: its start, its check, its socket. The rooms use each other in one direction: requests,
ledger, keys, kms, watch, settings, system.
"""
