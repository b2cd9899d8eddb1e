"""The broker's configuration, checked and typed."""
