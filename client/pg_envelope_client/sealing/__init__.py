"""Seals and opens values in the application: what the server must never see in the clear."""
