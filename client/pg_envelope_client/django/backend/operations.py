"""Statements that name the base table, because PostgreSQL takes no view there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

from django.db.backends.postgresql import operations


class DatabaseOperations(operations.DatabaseOperations):
    compiler_module = "pg_envelope_client.django.backend.compiler"

    def bulk_batch_size(self, fields: Sized, objs: Sized) -> int:
        """Returns how many objects fit into one statement."""
        largest: int | None = self.connection.features.max_query_params
        return len(objs) if largest is None else max(1, largest // max(1, len(fields)))

    def sql_flush(self, style: Any, tables: Iterable[str], **options: Any) -> list[str]:
        """One TRUNCATE of all tables, as foreign keys between them need it."""
        flushed: list[str] = super().sql_flush(style, [self.connection.base_of(table) for table in tables], **options)
        return flushed

    def sequence_reset_by_name_sql(self, style: Any, sequences: Iterable[Mapping[str, Any]]) -> list[str]:
        below = [{**sequence, "table": self.connection.base_of(sequence["table"])} for sequence in sequences]
        reset: list[str] = super().sequence_reset_by_name_sql(style, below)
        return reset

    def sequence_reset_sql(self, style: Any, model_list: Iterable[Any]) -> list[str]:
        return [statement for model in model_list for statement in self._reset(style, model)]

    def _reset(self, style: Any, model: Any) -> Iterator[str]:
        """Names the base table where the statement asks for the table's sequence, which comes first."""
        table = self.quote_name(model._meta.db_table)
        base = self.quote_name(self.connection.base_of(model._meta.db_table))
        for statement in super().sequence_reset_sql(style, [model]):
            yield statement.replace(table, base, 1)
