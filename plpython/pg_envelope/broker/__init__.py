"""Runs the key broker: the one process beside the server that talks to the KMS and hands field keys to sessions.

The files here are the process: its start, its check, its socket. The folders use each other in one direction: requests,
ledger, keys, kms, watch, settings, system.
"""
