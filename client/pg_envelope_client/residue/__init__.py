"""Looks for plaintext of a protected table in the files of its server."""
