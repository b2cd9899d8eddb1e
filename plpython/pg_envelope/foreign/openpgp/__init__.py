"""OpenPGP messages as pgcrypto and gpg write them. Source: RFC 4880, and RFC 9580 for the words.

The package reads them by itself and does not call pgcrypto's functions. In a function's call a passphrase would be a
parameter, and auto_explain writes the parameters of nested statements into the log.
"""
