"""Layouts that a specification cannot describe, each in a module of its own."""
