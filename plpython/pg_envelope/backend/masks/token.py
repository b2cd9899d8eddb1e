"""The lengths of the tokens of masked columns."""

from __future__ import annotations

from pg_envelope.backend.session_keys import CAPABILITY_BYTES

# The uuid of a rule comes last.
RULE_BYTES = 16
MASKED_BYTES = CAPABILITY_BYTES + RULE_BYTES
