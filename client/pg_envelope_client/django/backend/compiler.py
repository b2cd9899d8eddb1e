"""SQL of queries: upserts go to the upsert relation, and encrypted fields have no order."""

from __future__ import annotations

from typing import Any

from django.db import NotSupportedError
from django.db.backends.postgresql import compiler
from django.db.backends.postgresql.compiler import SQLDeleteCompiler, SQLUpdateCompiler
from django.db.models.constants import OnConflict
from django.db.models.expressions import Col, OrderBy, OrderByList

from pg_envelope_client.django.backend.base import beside
from pg_envelope_client.django.fields import EncryptedField, EncryptedLookupError

__all__ = ["SQLAggregateCompiler", "SQLCompiler", "SQLDeleteCompiler", "SQLInsertCompiler", "SQLUpdateCompiler"]


class WithoutOrder(compiler.BaseSQLCompiler):
    def compile(self, node: Any) -> Any:
        """Sees each order: that of the query, of a window and of an aggregate."""
        if isinstance(node, OrderBy | OrderByList):
            _refuse_order(node)
        return super().compile(node)


class SQLCompiler(WithoutOrder, compiler.SQLCompiler):
    pass


class SQLAggregateCompiler(WithoutOrder, compiler.SQLAggregateCompiler):
    pass


class SQLInsertCompiler(compiler.SQLInsertCompiler):
    def as_sql(self) -> Any:
        statements, conflict = super().as_sql(), self.query.on_conflict
        name = self.query.get_meta().db_table
        found = self.connection.protected_table(name) if conflict else None
        if found is None:
            return statements
        if found.upsert is None:
            if conflict == OnConflict.UPDATE:
                raise NotSupportedError(
                    f"{name} has no upsert relation: a superuser makes one with CALL envelope.allow_upsert"
                )
            return statements
        table = self.connection.ops.quote_name(name)
        return [
            (_upsert(sql, table, beside(table, found.upsert), f'"{found.name}"'), given) for sql, given in statements
        ]


def _upsert(sql: str, table: str, upsert: str, alias: str) -> str:
    """Writes to the upsert relation, under the table's own name. RETURNING may name the table with its schema."""
    head, _, rest = sql.partition(table)
    return f"{head}{upsert} AS {alias}{rest.replace(f'{table}.', f'{alias}.')}"


def _refuse_order(order: Any) -> None:
    for part in order.flatten():
        if isinstance(part, Col) and isinstance(part.target, EncryptedField):
            name = part.target.name
            raise EncryptedLookupError(f"{name} is encrypted: it has no order in the database. Sort in Python")
