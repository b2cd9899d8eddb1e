"""What Django reads from the catalog: the table that the view stands for, and not the relations beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.backends.postgresql import introspection

from pg_envelope_client.relations import CHECKS, Relations

STORED = """
SELECT a.attname, NOT a.attnotnull, a.attidentity OPERATOR(pg_catalog.<>) '' FROM pg_catalog.pg_attribute a
WHERE a.attrelid OPERATOR(pg_catalog.=) %s::pg_catalog.regclass AND a.attnum OPERATOR(pg_catalog.>) 0"""
# What Django has for a UNIQUE constraint.
UNIQUE = {"primary_key": False, "unique": True, "foreign_key": None, "check": False, "index": False}
UNIQUE |= {"definition": None, "options": None}


class DatabaseIntrospection(introspection.DatabaseIntrospection):
    def get_table_list(self, cursor: Any) -> list[Any]:
        known = {table.name: table for table in self._visible()}
        hidden = {name for table in known.values() for name in (table.base, table.upsert)}
        found = [info for info in super().get_table_list(cursor) if info.name not in hidden]
        return [info._replace(type="t") if info.name in known else info for info in found]

    def get_table_description(self, cursor: Any, table_name: str) -> list[Any]:
        found: list[Any] = super().get_table_description(cursor, table_name)
        table = self.connection.protected_table(table_name)
        if table is None:
            return found
        cursor.execute(STORED, [self.connection.base_of(table_name)])
        stored = {name: {"null_ok": null_ok, "is_autofield": auto} for name, null_ok, auto in cursor.fetchall()}
        shown = [info for info in found if info.name not in table.searches]
        return [info._replace(**stored.get(info.name, {})) for info in shown]

    def get_sequences(self, cursor: Any, table_name: str, table_fields: Any = ()) -> list[dict[str, Any]]:
        found = super().get_sequences(cursor, self._base(table_name), table_fields)
        return [{**sequence, "table": table_name} for sequence in found]

    def get_relations(self, cursor: Any, table_name: str) -> dict[str, tuple[str, str]]:
        found, shown = super().get_relations(cursor, self._base(table_name)), self._shown()
        return {name: (column, shown.get(table, table)) for name, (column, table) in found.items()}

    def get_constraints(self, cursor: Any, table_name: str) -> dict[str, dict[str, Any]]:
        found, shown = super().get_constraints(cursor, self._base(table_name)), self._shown()
        table = self.connection.protected_table(table_name)
        of_table = {name: _of_table(table, name, fact) for name, fact in found.items() if table and name not in CHECKS}
        return {name: _to_table(shown, fact) for name, fact in (of_table if table else found).items()}

    def _visible(self) -> Iterable[Relations]:
        return [table for table in self.connection.protected().values() if table.visible]

    def _base(self, name: str) -> str:
        table = self.connection.protected_table(name)
        return name if table is None else table.base

    def _shown(self) -> dict[str, str]:
        return {table.base: table.name for table in self._visible()}


def _of_table(table: Relations, name: str, fact: dict[str, Any]) -> dict[str, Any]:
    """Shows an index of tokens as one of the column that they find, or as that of the UNIQUE constraint."""
    columns = [table.searches.get(column, column) for column in fact["columns"]]
    return {"columns": columns, **UNIQUE} if name in table.uniques else {**fact, "columns": columns}


def _to_table(shown: dict[str, str], fact: dict[str, Any]) -> dict[str, Any]:
    """Shows a foreign key as one to the protected table."""
    if not fact["foreign_key"]:
        return fact
    table, column = fact["foreign_key"]
    return {**fact, "foreign_key": (shown.get(table, table), column)}
