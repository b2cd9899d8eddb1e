"""The part of PL/Python's module plpy that the package uses, for tests that need no server."""

from __future__ import annotations

from typing import Any


class PlpyError(Exception):
    """plpy.Error."""


class SPIError(PlpyError):
    """plpy.SPIError: an error of a statement."""

    def __init__(self, message: str, sqlstate: str, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.spidata = (0, detail, hint, None, 0)


class Result(list[dict[str, Any]]):
    def nrows(self) -> int:
        return len(self)


class FakePlpy:
    """Remembers what is prepared, run and told; answers every query with `rows`."""

    Error = PlpyError
    SPIError = SPIError

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = rows or []
        self.prepared: list[tuple[str, list[str]]] = []
        self.executed: list[tuple[Any, ...]] = []
        self.told: list[tuple[str, dict[str, str]]] = []

    def prepare(self, query: str, types: list[str]) -> str:
        self.prepared.append((query, types))
        return query

    def execute(self, *call: Any) -> Result:
        self.executed.append(call)
        return Result(self.rows)

    def notice(self, message: str, **fields: str) -> None:
        self.told.append((message, fields))
