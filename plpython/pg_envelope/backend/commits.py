"""Lets procedures commit as they work, and refuses to begin where they cannot."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host

# invalid_transaction_termination
NO_COMMIT_HERE = "2D000"
# operator_intervention: a cancel, a timeout or a shutdown ends the whole procedure, not one item of its work.
ENDS_ALL = "57"


class InTransaction(errors.NotConfigured):
    sqlstate = "25001"


def begin(host: Host, what: str) -> None:
    """Ends the transaction that holds what was read so far. Raises InTransaction where the caller's transaction
    forbids it.
    """
    try:
        host.commit()
    except Exception as error:
        if getattr(error, "sqlstate", None) != NO_COMMIT_HERE:
            raise
        raise InTransaction(
            f"{what}() commits as it goes, and cannot run inside a transaction block",
            hint="Call it in autocommit mode: not after BEGIN, not from a function, not in psql --single-transaction.",
        ) from None
