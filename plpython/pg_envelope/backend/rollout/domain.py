"""Adds columns of envelope.ciphertext without a rewrite of their table.

PostgreSQL rewrites a table that gains a column of a domain with a CHECK. So the CHECK is away while the columns are
added. No other session ever sees that, because both happen in one transaction, which stores no envelope meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pg_envelope.backend.host import Host

CHECK = """
SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_catalog.pg_constraint
WHERE contypid = 'envelope.ciphertext'::regtype AND contype = 'c'"""
# Two sessions that alter the domain at once get an error of PostgreSQL's. A type cannot be locked, so a table is that
# nobody else locks. Readers and writers of the table do not wait for this mode.
ONE_BY_ONE = "LOCK TABLE envelope_private.protected_column IN SHARE UPDATE EXCLUSIVE MODE"
# VALIDATE CONSTRAINT would read every table with the domain. All their values have met this very CHECK.
VALIDATED = """
UPDATE pg_catalog.pg_constraint SET convalidated = true
WHERE contypid = 'envelope.ciphertext'::regtype AND contype = 'c' AND NOT convalidated"""


def alone(host: Host) -> None:
    """Waits until no other session alters the domain, and keeps it so until the transaction ends."""
    host.run(ONE_BY_ONE)


@contextmanager
def without_check(host: Host) -> Iterator[None]:
    """Comes after alone(). Within it no value may be stored in a column of the domain."""
    checks = host.rows(CHECK)
    for check in checks:
        host.run(f"ALTER DOMAIN envelope.ciphertext DROP CONSTRAINT {check['name']}")
    yield
    for check in checks:
        host.run(f"ALTER DOMAIN envelope.ciphertext ADD CONSTRAINT {check['name']} {check['definition']} NOT VALID")
    host.run(VALIDATED)
