"""PostgreSQL as the rest of the package sees it: the only module that knows plpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from pg_envelope import errors
from pg_envelope.backend.quiet import hide_context
from pg_envelope.backend.server import settings_kept
from pg_envelope.typed import Any, NoReturn, TypeVar

Row = dict[str, Any]
Result = TypeVar("Result")
NAME = "pg_envelope"
PIN = "SET LOCAL search_path = pg_catalog, pg_temp"
# PostgreSQL would make a plan of its own for each of the first five values, which takes longer than these queries.
GENERIC = "SET LOCAL plan_cache_mode = force_generic_plan"
# CURRENT_USER is evaluated here: inside the function it would be the extension's owner.
RUN_STEP = "SELECT envelope_internal.run_step(CURRENT_USER)"
RELATION = "SELECT $1::pg_catalog.regclass::pg_catalog.oid AS oid"
NAMED = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid AS oid"
QUERY = "SELECT pg_catalog.current_query() AS text"


class Undone(errors.EnvelopeError):
    """Makes PostgreSQL undo what a step did. No caller sees it, because as_owner() raises what the step raised."""


class Host:
    """Queries, errors, notices and interrupts of the running backend.

    Statements run under the search_path that is there: their caller's, or that of a SQL function which pins it.
    """

    def __init__(self, plpy: Any) -> None:
        self._plpy = plpy
        self._plans: dict[str, Any] = {}
        # PL/Python puts "<module>.<class>: " before an error's text. This name makes it "pg_envelope: ".
        self._error = type(NAME, (plpy.Error,), {"__module__": "builtins"})
        self._step: Callable[[], None] | None = None
        # The role that began the step under way.
        self.acting: str | None = None

    def as_owner(self, step: Callable[[], Result]) -> Result:
        """Runs `step` as the extension's owner, who alone may use the key catalog. Returns or raises what
        `step` does.

        A SECURITY DEFINER function of SQL gives the right, and calls `run_step`. The step, its result and its
        error stay in Python: no argument and no result of SQL ever holds them.
        """
        results: list[Result] = []
        failures: list[Exception] = []

        def kept() -> None:
            try:
                results.append(step())
            except Exception as error:
                failures.append(error)
                raise Undone from None

        self._step = kept
        try:
            self._rows(RUN_STEP, (), ())
        except Exception as error:
            raise (failures[0] if failures else error) from None
        finally:
            self._step = None
        return results[0]

    def run_step(self, acting: str) -> None:
        """The half of `as_owner` that has the owner's rights. Raises NotPermitted when it is called by hand."""
        step, self._step = self._step, None
        if step is None:
            raise errors.NotPermitted
        before, self.acting = self.acting, acting
        try:
            step()
        finally:
            self.acting = before

    def rows(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> list[Row]:
        """Returns the rows of a query whose values are parameters. The session keeps the query's plan.

        `types` are names in pg_catalog. The plan serves every role of the session, so no name in it may be looked up
        in the search_path of the role that came first.
        """
        return self._rows(query, types, values)

    def row(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> Row | None:
        found = self.rows(query, types, values)
        return found[0] if found else None

    def catalog_rows(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> list[Row]:
        """Returns the rows of a query over the catalogs, for which one plan is as good for all values."""
        return self.rows(query, types, values)

    def once(self, query: str) -> list[Row]:
        """Returns the rows of a query whose text will not come again. The session keeps no plan of it."""
        return list(self._plpy.execute(query))

    def run(self, statement: str) -> int:
        """Runs a statement without parameters, also DDL. Returns the number of rows that it touched."""
        return int(self._plpy.execute(statement).nrows())

    def setting(self, statement: str) -> None:
        """Runs a SET or SET LOCAL of the package's own."""
        self._plpy.execute(statement)

    def relation(self, name: str) -> int:
        """Returns the OID of a relation by the text of a regclass. The text was written under the caller's
        search_path.
        """
        return int(self._rows(RELATION, ["text"], [name])[0]["oid"])

    def named(self, name: str) -> int | None:
        """Returns the OID of what a name means under the caller's search_path, or None."""
        found = self._rows(NAMED, ["text"], [name])[0]["oid"]
        return None if found is None else int(found)

    def query(self) -> str:
        """Returns the text that the client sent. A function may be running another statement for it."""
        return str(self._rows(QUERY, (), ())[0]["text"] or "")

    def notice(self, message: str, detail: str | None = None, hint: str | None = None) -> None:
        self._plpy.notice(message, **_given(detail=detail, hint=hint))

    def warning(self, message: str, detail: str | None = None, hint: str | None = None) -> None:
        self._plpy.warning(message, **_given(detail=detail, hint=hint))

    def commit(self) -> None:
        self._plpy.commit()

    def rollback(self) -> None:
        self._plpy.rollback()

    def subtransaction(self) -> AbstractContextManager[object]:
        """Opens a subtransaction. An error inside it undoes only what ran inside it, so the statement can go on."""
        found: AbstractContextManager[object] = self._plpy.subtransaction()
        return found

    def interrupts(self) -> None:
        """Lets a cancel, a timeout or a shutdown take effect, because PostgreSQL looks for them at any statement."""
        self._plpy.execute("SELECT")

    def fail(self, error: errors.EnvelopeError, *, foreseen: bool = True) -> NoReturn:
        """Raises `error` as PostgreSQL's, with its SQLSTATE, DETAIL and HINT. The error carries nothing of its
        cause.

        The server's log shows a CONTEXT only for an error that is not `foreseen`.
        """
        fields = _given(detail=error.detail, hint=error.hint)
        raised = self._error(error.message)
        raised.__dict__.update(sqlstate=error.sqlstate, **fields)
        if foreseen:
            hide_context()
        raise raised from None

    def passed_on(self, error: Exception) -> errors.EnvelopeError | None:
        """Returns an error of a statement that the package ran, with the SQLSTATE, DETAIL and HINT that
        PostgreSQL gave it.
        """
        if not isinstance(error, self._plpy.SPIError):
            return None
        spidata: tuple[Any, ...] = getattr(error, "spidata", None) or ()
        _, detail, hint, *_ = (*spidata, None, None, None)
        passed = errors.EnvelopeError(str(error).removeprefix(f"{NAME}: "), detail=detail, hint=hint)
        passed.sqlstate = getattr(error, "sqlstate", passed.sqlstate)
        return passed

    def _rows(self, query: str, types: Sequence[str], values: Sequence[Any]) -> list[Row]:
        plan = self._plans.get(query)
        if plan is None:
            plan = self._plans[query] = self._plpy.prepare(query, [f"pg_catalog.{name}" for name in types])
        return list(self._plpy.execute(plan, list(values)))


class PinnedHost(Host):
    """Runs administration, often as a superuser, so that each statement finds the operators and functions of
    pg_catalog.

    The search_path is pinned for one statement at a time, and ends with it. So neither the caller nor code that a
    table's owner ran before decides what a name stands for.
    """

    def rows(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> list[Row]:
        with self._pinned():
            return super().rows(query, types, values)

    def catalog_rows(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> list[Row]:
        with self._pinned(GENERIC):
            return super()._rows(query, types, values)

    def once(self, query: str) -> list[Row]:
        with self._pinned():
            return super().once(query)

    def run(self, statement: str) -> int:
        with self._pinned():
            return super().run(statement)

    @contextmanager
    def _pinned(self, *more: str) -> Iterator[None]:
        with settings_kept():
            for setting in (PIN, *more):
                self._plpy.execute(setting)
            yield


def _given(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
