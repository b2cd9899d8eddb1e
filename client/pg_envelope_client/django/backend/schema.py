"""DDL. The server takes it on the table's own name, but for what runs outside of a transaction, and for indexes."""

from __future__ import annotations

import copy
from typing import Any

from django.db import NotSupportedError
from django.db.backends.postgresql import schema

IS_ENCRYPTED = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid OPERATOR(pg_catalog.=) %s::pg_catalog.regclass AND a.attname OPERATOR(pg_catalog.=) %s
    AND a.atttypid OPERATOR(pg_catalog.=) 'envelope.ciphertext'::pg_catalog.regtype)"""


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

    def _alter_field(self, model: Any, old_field: Any, new_field: Any, *rest: Any, **options: Any) -> None:
        """Leaves the indexes of a protected column as they are: those of its search column stand for them."""
        table = self.connection.protected_table(model._meta.db_table)
        if table is not None and self._is_encrypted(model, old_field.column):
            _refuse_unique(model, old_field, new_field)
            if new_field.db_index and old_field.column not in table.searches.values():
                _refuse_index(model, new_field)
            old_field = copy.copy(old_field)
            old_field.db_index = new_field.db_index
        super()._alter_field(model, old_field, new_field, *rest, **options)

    def _is_encrypted(self, model: Any, column: str) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute(IS_ENCRYPTED, [self.connection.base_of(model._meta.db_table), column])
            return bool(cursor.fetchone()[0])


def _refuse_index(model: Any, field: Any) -> None:
    raise NotSupportedError(
        f"{field.name} is encrypted and has no search column, which an index needs:"
        f' put AddSearch("{model._meta.object_name}", "{field.name}") into an earlier migration'
    )


def _refuse_unique(model: Any, old_field: Any, new_field: Any) -> None:
    if old_field.unique != new_field.unique:
        raise NotSupportedError(
            f"{new_field.name} is encrypted: in the place of this AlterField write"
            f' AlterUnique("{model._meta.object_name}", "{new_field.name}", {new_field.unique}),'
            " of pg_envelope_client.django.operations"
        )
