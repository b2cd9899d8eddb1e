"""Describes how the values of one field are sealed and bound: FORMAT.md sections 1.1 and 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pg_envelope import errors
from pg_envelope.envelope import header
from pg_envelope_client.sealing.types import BOUND, Codec, codec, utf8

RowKey = object


@dataclass(frozen=True)
class FieldLayout:
    """`row_key` has the columns that values are bound to, in order. `scope_column` chooses the tenant or subject."""

    database: UUID
    field: UUID
    label: str
    suite: int
    padded: bool
    type: str | None
    row_key: tuple[tuple[str, Codec], ...]
    scope_column: str | None

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> FieldLayout:
        """Reads what the key catalog tells. Raises Unsupported for a row key whose text a client cannot make."""
        return cls(
            database=UUID(told["database_uuid"]),
            field=UUID(told["field_uuid"]),
            label=told["label"],
            suite=told["suite"],
            padded=told["pad"],
            type=told["type"],
            row_key=tuple((name, codec(kind, BOUND)) for name, kind in told["row_key"]),
            scope_column=told["scope_column"],
        )

    def head(self, key_id: int) -> bytes:
        """Returns the header of a new envelope under a key."""
        return header(self.suite, self.padded, key_id)

    def texts(self, row_key: RowKey) -> list[str]:
        """Returns the canonical text of each column of the row key. Raises BadInput."""
        values = self._values(row_key)
        for value in values:
            if value is None:
                raise errors.BadInput("no column of a row key may be NULL")
        return [kind.write(value) for (_, kind), value in zip(self.row_key, values, strict=True)]

    def scope(self, texts: list[str]) -> str | None:
        """Returns the tenant or subject of a row."""
        return None if self.scope_column is None else texts[self._names.index(self.scope_column)]

    @property
    def _names(self) -> list[str]:
        return [name for name, _ in self.row_key]

    def _values(self, row_key: RowKey) -> list[object]:
        if isinstance(row_key, Mapping):
            if not set(self._names) <= set(row_key):
                raise self._unfit()
            return [row_key.get(name) for name in self._names]
        given = list(row_key) if isinstance(row_key, tuple) else [] if row_key is None else [row_key]
        if len(given) != len(self.row_key):
            raise self._unfit()
        return given

    def _unfit(self) -> errors.BadInput:
        names = ", ".join(self._names) or "none, because the column is bound to no row"
        return errors.BadInput("the row key does not fit the column", detail=f"Columns of the row key: {names}.")


def joined(texts: list[str]) -> bytes:
    """Returns the row key of FORMAT.md section 1.1."""
    if len(texts) < 2:
        return "".join(texts).encode()
    return "".join(f"{len(text)}:{text}" for text in texts).encode()


def place(*texts: str) -> str:
    """Returns the context of a place that several texts name, so that no other place has it, too. Raises BadInput."""
    return joined([utf8(text) for text in texts]).decode()
