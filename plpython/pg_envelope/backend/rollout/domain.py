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
# Two sessions that alter the domain at once get an error of PostgreSQL's.
ONE_BY_ONE = "LOCK TABLE envelope_private.job IN SHARE ROW EXCLUSIVE MODE"
# VALIDATE CONSTRAINT would read every table with the domain. All their values have met this very CHECK.
VALIDATED = """
UPDATE pg_catalog.pg_constraint SET convalidated = true
WHERE contypid = 'envelope.ciphertext'::regtype AND contype = 'c' AND NOT convalidated"""


@contextmanager
def without_check(host: Host) -> Iterator[None]:
    """Within it no value may be stored in a column of the domain."""
    host.run(ONE_BY_ONE)
    checks = host.rows(CHECK)
    for check in checks:
        host.run(f"ALTER DOMAIN envelope.ciphertext DROP CONSTRAINT {check['name']}")
    yield
    for check in checks:
        host.run(f"ALTER DOMAIN envelope.ciphertext ADD CONSTRAINT {check['name']} {check['definition']} NOT VALID")
    host.run(VALIDATED)
