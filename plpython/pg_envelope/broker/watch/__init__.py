"""Tells about the broker itself: audit log and metrics."""
