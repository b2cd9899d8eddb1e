"""The key broker: the one process beside the server that talks to the KMS and hands field keys to backends."""
