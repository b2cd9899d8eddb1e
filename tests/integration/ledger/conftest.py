"""Fixtures of the ledger of reads: a table with an audited column, and what the broker recorded of a session."""

from __future__ import annotations

from tests.integration.operations.fix_kms_life import breakable

from .fix_reads import audited, recorded

__all__ = ["audited", "breakable", "recorded"]
