"""Carries along what depends on a table: views, materialized views, rules, policies and functions.

found = dependents.lock(host, table, table.sql)
listed = dependents.read(host, found.nodes)
obstacles = dependents.unserved(host, table, columns, found, listed)
with dependents.carried(host, listed):
    ...  # another relation takes the name
"""

from pg_envelope.backend.tables.dependents import copies, own
from pg_envelope.backend.tables.dependents.carry import carried, lock, names_locked, read, readers_as_owner, unserved
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.dependents.graph import Graph
from pg_envelope.backend.tables.dependents.row_columns import gaining, losing

__all__ = [
    "Dependent",
    "Graph",
    "carried",
    "copies",
    "gaining",
    "lock",
    "losing",
    "names_locked",
    "own",
    "read",
    "readers_as_owner",
    "unserved",
]
