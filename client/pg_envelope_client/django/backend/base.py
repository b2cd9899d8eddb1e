"""The connection, which knows the protected tables of its database."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from pg_envelope_client import relations
from pg_envelope_client.django.backend.features import DatabaseFeatures
from pg_envelope_client.django.backend.introspection import DatabaseIntrospection
from pg_envelope_client.django.backend.operations import DatabaseOperations
from pg_envelope_client.django.backend.schema import DatabaseSchemaEditor
from pg_envelope_client.relations import Relations


class DatabaseWrapper(base.DatabaseWrapper):
    """Parameters go to the server apart from the SQL text, unless OPTIONS say otherwise: the server logs the text of a
    statement that fails.
    """

    SchemaEditorClass = DatabaseSchemaEditor
    features_class = DatabaseFeatures
    introspection_class = DatabaseIntrospection
    ops_class = DatabaseOperations
    _protected: dict[str, Relations] | None = None

    def __init__(self, settings_dict: dict[str, Any], *arguments: Any, **options: Any) -> None:
        settings_dict["OPTIONS"].setdefault("server_side_binding", True)
        super().__init__(settings_dict, *arguments, **options)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self.forget_protected()
        return super().get_new_connection(conn_params)

    def _rollback(self) -> None:
        self.forget_protected()
        super()._rollback()

    def _savepoint_rollback(self, sid: str) -> None:
        """What was undone may have protected a table."""
        self.forget_protected()
        super()._savepoint_rollback(sid)

    def forget_protected(self) -> None:
        """The next use asks the database anew which tables are protected."""
        self._protected = None

    def protected(self) -> dict[str, Relations]:
        """Returns the protected tables, by each quoted name that Django can have for them."""
        if self._protected is None:
            self.ensure_connection()
            # Not Django's cursor: an application counts its own queries.
            with self.wrap_database_errors, self.connection.cursor() as cursor:
                found = relations.read(cursor)
            names = {f'"{table.schema}"."{table.name}"': table for table in found}
            self._protected = names | {f'"{table.name}"': table for table in found if table.visible}
        return self._protected

    def protected_table(self, db_table: str) -> Relations | None:
        return self.protected().get(self.ops.quote_name(db_table))

    def base_of(self, db_table: str) -> str:
        """Returns the base table of a protected table, and any other table itself, as `db_table` names it."""
        found = self.protected_table(db_table)
        return db_table if found is None else beside(self.ops.quote_name(db_table), found.base)


def beside(quoted: str, name: str) -> str:
    """Returns the quoted name of another relation of the same schema."""
    schema, dot, _ = quoted.rpartition('"."')
    return f'{schema}{dot}{name}"' if dot else f'"{name}"'
