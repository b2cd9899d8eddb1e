"""Fixtures of the client's tests."""

from __future__ import annotations

from .fix_kms import kms, server, site

__all__ = ["kms", "server", "site"]
