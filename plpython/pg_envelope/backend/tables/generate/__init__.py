"""Writes the SQL of protect(): a decrypting view, the triggers that write through it, and the base table's guard.

It makes text from a Layout, and talks to no server. Every name is quoted, and every object is qualified.
"""

from pg_envelope.backend.tables.generate.expressions import (
    encrypted_as_role,
    loses,
    opened_as_role,
    reads_as_role,
    record,
    resealed,
    row_key,
    stored,
)
from pg_envelope.backend.tables.generate.guard import no_drafts
from pg_envelope.backend.tables.generate.layout import ADOPT, Layout, Protected, input_name, rights_name, upsert_name
from pg_envelope.backend.tables.generate.refused import check_functions
from pg_envelope.backend.tables.generate.view import emptied, rights, stub, view
from pg_envelope.backend.tables.generate.writes import (
    ALWAYS,
    COMMENTED,
    EVENTS,
    GUARDS,
    every_guard,
    function_names,
    functions,
    trigger_names,
    triggers,
)

__all__ = [
    "ADOPT",
    "ALWAYS",
    "COMMENTED",
    "EVENTS",
    "GUARDS",
    "Layout",
    "Protected",
    "check_functions",
    "emptied",
    "encrypted_as_role",
    "every_guard",
    "function_names",
    "functions",
    "input_name",
    "loses",
    "no_drafts",
    "opened_as_role",
    "reads_as_role",
    "record",
    "resealed",
    "rights",
    "rights_name",
    "row_key",
    "stored",
    "stub",
    "trigger_names",
    "triggers",
    "upsert_name",
    "view",
]
