"""DDL. The server takes it on the table's own name, but for what runs outside of a transaction."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import schema


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor):
    def execute(self, sql: Any, params: Any = ()) -> None:
        """Any statement of a migration may protect a table, or end that."""
        super().execute(sql, params)
        self.connection.forget_protected()

    def add_index(self, model: Any, index: Any, concurrently: bool = False) -> None:
        """CREATE INDEX CONCURRENTLY names the base table."""
        base = self.connection.base_of(model._meta.db_table)
        if not concurrently or base == model._meta.db_table:
            super().add_index(model, index, concurrently)
            return
        made = index.create_sql(model, self, concurrently=True)
        made.parts["table"] = base
        self.execute(made, params=None)
