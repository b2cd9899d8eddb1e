"""SQLAlchemy over protected tables: `install` teaches an engine, and `Encrypted` is the type of an encrypted column.

This folder alone knows SQLAlchemy.
"""

from __future__ import annotations

try:
    import sqlalchemy  # noqa: F401
except ImportError:
    raise ImportError("SQLAlchemy is not installed: pip install 'pg-envelope[sqlalchemy]'") from None

from pg_envelope_client.sqlalchemy.encrypted import Encrypted
from pg_envelope_client.sqlalchemy.engine import install

__all__ = ["Encrypted", "install"]
