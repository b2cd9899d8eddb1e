"""Answers what a backend may ask for: the messages, and one module for each kind of work."""
