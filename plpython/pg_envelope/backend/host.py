"""PostgreSQL as the rest of the package sees it: the only module that knows plpy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from pg_envelope import errors
from pg_envelope.backend.quiet import hide_context

Row = dict[str, Any]
NAME = "pg_envelope"


class Host:
    """Queries, errors, notices and interrupts of the running backend."""

    def __init__(self, plpy: Any) -> None:
        self._plpy = plpy
        self._plans: dict[str, Any] = {}
        # PL/Python puts "<module>.<class>: " before an error's text. This name makes it "pg_envelope: ".
        self._error = type(NAME, (plpy.Error,), {"__module__": "builtins"})

    def rows(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a query whose values are parameters; its plan is kept for the session."""
        plan = self._plans.get(query)
        if plan is None:
            plan = self._plans[query] = self._plpy.prepare(query, list(types))
        return list(self._plpy.execute(plan, list(values)))

    def row(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> Row | None:
        found = self.rows(query, types, values)
        return found[0] if found else None

    def run(self, statement: str) -> int:
        """Runs a statement without parameters, DDL included; the number of rows it touched."""
        return int(self._plpy.execute(statement).nrows())

    def notice(self, message: str, detail: str | None = None, hint: str | None = None) -> None:
        self._plpy.notice(message, **_given(detail=detail, hint=hint))

    def warning(self, message: str, detail: str | None = None, hint: str | None = None) -> None:
        self._plpy.warning(message, **_given(detail=detail, hint=hint))

    def commit(self) -> None:
        self._plpy.commit()

    def rollback(self) -> None:
        self._plpy.rollback()

    def subtransaction(self) -> AbstractContextManager[object]:
        """What fails inside is undone alone, so that the statement can go on."""
        found: AbstractContextManager[object] = self._plpy.subtransaction()
        return found

    def interrupts(self) -> None:
        """Lets a cancel, a timeout or a shutdown take effect: any statement makes PostgreSQL look for them."""
        self._plpy.execute("SELECT")

    def fail(self, error: errors.EnvelopeError, *, foreseen: bool = True) -> NoReturn:
        """Raises `error` as PostgreSQL's, with its SQLSTATE, DETAIL and HINT; nothing of the cause goes along.

        One that was not `foreseen` has its CONTEXT in the server's log, too.
        """
        fields = _given(detail=error.detail, hint=error.hint)
        raised = self._error(error.message)
        raised.__dict__.update(sqlstate=error.sqlstate, **fields)
        if foreseen:
            hide_context()
        raise raised from None

    def passed_on(self, error: Exception) -> errors.EnvelopeError | None:
        """An error of a statement that the package ran, with the SQLSTATE, DETAIL and HINT that PostgreSQL gave it."""
        if not isinstance(error, self._plpy.SPIError):
            return None
        spidata: tuple[Any, ...] = getattr(error, "spidata", None) or ()
        _, detail, hint, *_ = (*spidata, None, None, None)
        passed = errors.EnvelopeError(str(error).removeprefix(f"{NAME}: "), detail=detail, hint=hint)
        passed.sqlstate = getattr(error, "sqlstate", passed.sqlstate)
        return passed


def _given(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
