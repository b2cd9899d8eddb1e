"""The TLS door for applications that encrypt and decrypt by themselves."""
